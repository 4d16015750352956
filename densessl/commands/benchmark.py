"""The command `benchmark`: one encoder under every named protocol, from features that are computed once."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from densessl.changed_settings import changed_settings
from densessl.commands.attention_output import say
from densessl.commands.benchmark_cards import check_own_folder
from densessl.commands.benchmark_progress import Progress
from densessl.commands.benchmark_table import Row
from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.classes import ClassSelection, parse_classes
from densessl.commands.cluster_encoder import open_clustered_encoder
from densessl.commands.encoder import EncoderSettings
from densessl.commands.protocol_data import DataSettings, ProtocolData
from densessl.commands.protocol_description import NamedProtocol
from densessl.commands.protocol_result import ProtocolSettings
from densessl.commands.protocol_runs import (
    PROTOCOLS,
    check_requirements,
    named_protocol,
    reason_to_leave_out,
    splits_of,
)
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.extraction import Foreground
from densessl.evaluation.labelled_protocols import ExactLinearSettings, HummingbirdSettings, LinearScheduleSettings
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.pixel_protocols import LeopartSettings
from densessl.files import make_folder, remove_abandoned_writes
from densessl.models.dense_encoder import Normalisation
from densessl.models.precision import Precision
from densessl.training.finetuning import FinetuneSettings
from densessl.training.run_folder import environment_record


@dataclass(frozen=True)
class BenchmarkResult:
    """What `benchmark` found: its folder, a row for each protocol, and the table as text."""

    out: Path
    rows: tuple[Row, ...]
    text: str


@checked_arguments
def benchmark(
    encoder: str | Callable[[torch.Tensor], torch.Tensor],
    data: Path,
    out: Path,
    protocols: str | list[str] = "all",
    split: str = "val",
    train_split: str | None = None,
    foreground: Foreground | None = None,
    masks: Path | None = None,
    train_masks: Path | None = None,
    classes: ClassSelection = None,
    image_size: int | None = None,
    seeds: int = 5,
    seed: int = 0,
    bootstrap: int = 1000,
    instances: bool = False,
    compare: Path | None = None,
    keep_features: bool = True,
    weights: Literal["final", "initial"] | Path = "final",
    pretrained: bool = False,
    output_stride: Literal[8, 16, 32] = 8,
    normalisation: Normalisation = "auto",
    features: FeatureMap = "embedding",
    trust_file: bool = False,
    precision: Precision = "auto",
    batch_size: int = 8,
    num_workers: int = -1,
    linear: LinearScheduleSettings = LinearScheduleSettings(),
    exact: ExactLinearSettings = ExactLinearSettings(),
    hummingbird: HummingbirdSettings = HummingbirdSettings(),
    finetune: FinetuneSettings = FinetuneSettings(),
    leopart: LeopartSettings = LeopartSettings(),
) -> BenchmarkResult:
    """Score one encoder under every named protocol, with intervals and a card for each number.

    Repeating the command goes on where it was stopped: protocols with a card of the same settings are not run again.

    Args:
        encoder: a run folder, a timm name, a TorchScript or torch.export file, or module:function (docs/encoders.md).
        data: a data set in VOC or COCO layout.
        out: receives benchmark.md, benchmark.json, cards/ and features/, of one encoder and data set.
        protocols: all that can run (the table says what the others lack), or names such as native,linear_exact
            (docs/protocols.md).
        split: what is scored.
        train_split: what probes, memories, banks and stego320 are fitted to; by default the split that each protocol
            is published with (train_aug, for retrieval train). It must not share images with the scored one.
        foreground: head (the network's saliency head), masks, all or labels (the true foreground: an oracle, and said
            to be one); by default masks where --masks is given, else the head of a run.
        masks: a folder of masks of the scored images.
        train_masks: a folder of masks of the training images, for retrieval; it may be the same.
        classes: the classes that are learned and scored, such as 0,8,10; pixels of others are ignored.
        image_size: height and width before the encoder, in place of every protocol's own: one pass over the images
            serves nearly all protocols, and the numbers are not the published ones'. finetune takes it in place of
            --finetune.size_px, and refuses another one beside it.
        seeds: how many times clustering is repeated.
        seed: the first seed.
        bootstrap: how many times the images are resampled for the 95 % intervals; 0 for none.
        instances: also score objects by COCO's AP and AR (docs/scores.md): connected regions of the predicted classes
            against the data set's objects (COCO annotations, VOC's SegmentationObject), else regions of the labels.
        compare: the folder of another encoder's benchmark, of the same settings: in how many of the same resamples this
            one is better; first seed with first seed where clustering is repeated.
        keep_features: leave the features on the disk.
        weights: of a run: final or initial; of a timm name: a file.
        pretrained: let timm download its published weights for a timm name.
        output_stride: image pixels per cell of a timm name's convolutional network.
        normalisation: of the images that a timm name's network sees: imagenet, timm or auto.
        features: of a run: embedding, decoder or encoder. Linear probes take a run's decoder features, as published.
        trust_file: open a TorchScript or torch.export file, which can run code when it is loaded.
        precision: of the encoder: fp32, bf16, or auto (bf16 for runs and timm names where the machine multiplies it in
            hardware).
        batch_size: images per call of the encoder; it does not change the result.
        num_workers: loader processes; -1 chooses by the number of cores.
        linear: of protocol linear; its augmentation takes a pass over the training images in every epoch.
        exact: of protocol linear_exact.
        hummingbird: of protocol hummingbird.
        finetune: of protocol finetune, which takes long too.
        leopart: of protocol leopart.

    Raises:
        InputError: settings that cannot work; and, when all else is done and written, protocols that failed.
    """
    names = parse_protocols(protocols)
    _check_comparison(compare, bootstrap)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = ProtocolSettings(
        image_size,
        range(seed, seed + seeds),
        bootstrap,
        linear,
        exact,
        hummingbird,
        finetune,
        instances,
        leopart=leopart,
    )
    _tell_of_unused(settings, names)
    chosen = [named_protocol(name, settings) for name in names]
    opened = open_clustered_encoder(
        None,
        EncoderSettings(encoder, weights, pretrained, output_stride, normalisation, features, trust_file, precision),
        device,
    )
    source = DataSettings(
        data,
        split,
        train_split,
        foreground,
        masks,
        train_masks,
        parse_classes(classes),
        out / "features",
        batch_size,
        num_workers,
    )
    benchmarked = ProtocolData(opened, source, device)
    if foreground is not None:
        benchmarked.masks(split, benchmarked.foreground("native"))  # what was asked for is there
    is_all = protocols in ("all", ["all"])
    left_out = _left_out(chosen, benchmarked, is_all=is_all)
    check_own_folder(out, benchmarked)
    make_folder(out)
    remove_abandoned_writes(out)
    run = Progress(out, benchmarked, settings, left_out, compare, environment_record(device))
    run.write(is_complete=False)  # from now on the folder is this encoder's
    for name in names:
        run.add(name)
    text = run.write(is_complete=True)
    if not keep_features:
        shutil.rmtree(out / "features", ignore_errors=True)
    print(text)
    failed = [row for row in run.rows if row.is_failure]
    if failed:
        reasons = "; ".join(f"{row.name}: {row.reason}" for row in failed)
        raise InputError(f"{len(failed)} of {len(names)} protocols failed ({reasons}); the others are in {out}")
    return BenchmarkResult(out, tuple(run.rows), text)


def parse_protocols(protocols: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the protocols that were asked for, each once, in the order in which they run.

    Raises `InputError` for none, and for unknown ones.
    """
    words = protocols.split(",") if isinstance(protocols, str) else list(protocols)
    names = {word.strip() for word in words if word.strip()}
    if names == {"all"}:
        return PROTOCOLS
    unknown = sorted(names - set(PROTOCOLS))
    if unknown or not names:
        what = f"protocol {unknown[0]!r} is unknown" if unknown else "no protocol is named"
        raise InputError(f"{what}; give all, or names among {', '.join(PROTOCOLS)}")
    return tuple(name for name in PROTOCOLS if name in names)


def _tell_of_unused(settings: ProtocolSettings, names: Sequence[str]) -> None:
    """Say of which protocols settings are given that do not run: a file of settings may serve several calls."""
    usual = ProtocolSettings(None, range(1), 0)
    groups = {
        "linear": "linear",
        "exact": "linear_exact",
        "hummingbird": "hummingbird",
        "finetune": "finetune",
        "leopart": "leopart",
    }
    for group, name in groups.items():
        given = changed_settings(getattr(settings, group), getattr(usual, group))
        if given and name not in names:
            texts = ", ".join(f"{group}.{field} {value}" for field, value in given.items())
            say(f"{texts}: not used, since protocol {name} is not among those of this call (--protocols)")


def _left_out(protocols: Sequence[NamedProtocol], data: ProtocolData, *, is_all: bool) -> dict[str, str]:
    """Return why protocols are left out, of all; those that were asked for by name are refused.

    Splits that are missing or share images with the scored one are refused either way, and so is a foreground that was
    asked for and is not there.
    """
    for protocol in protocols:
        splits_of(protocol, data)
        if not is_all:
            check_requirements(protocol, data)
    reasons = {protocol.name: reason_to_leave_out(protocol, data) for protocol in protocols}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _check_comparison(compare: Path | None, bootstrap: int) -> None:
    if compare is None:
        return
    if bootstrap == 0:
        raise InputError("--compare needs the number of resamples; leave --bootstrap at 1000")
    if not (compare / "cards").is_dir():
        raise MissingInputError(f"no benchmark in {compare}; expected the --out of another one, with cards/")
