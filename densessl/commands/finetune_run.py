"""The protocol `finetune`: the encoder learns with labels, stage by stage at falling rates."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from densessl.commands.encoder import TrainableEncoder, trainable_encoder
from densessl.commands.protocol_data import ProtocolData
from densessl.commands.protocol_result import NO_MATCHING, NOTHING_CHOSEN, ProtocolResult, ProtocolSettings
from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.evaluation.class_maps import class_probabilities, most_likely
from densessl.evaluation.cluster_segmentation import read_label
from densessl.evaluation.image_scores import LabelledPrediction, score_images
from densessl.evaluation.labelled_protocols import FINETUNE
from densessl.files import make_folder
from densessl.models.segmentation_network import (
    SegmentationNetwork,
    SegmentationNetworkHeader,
    build_segmentation_network,
    copy_run_encoder,
)
from densessl.structures import ImageRef, ImageSet, Rejection
from densessl.training.devices import make_fabric
from densessl.training.finetuning import FinetuneSettings, finetune_network
from densessl.training.run_folder import plain


@dataclass(frozen=True)
class FinetuneRun:
    """The protocol with its settings; the size of the views is that of the settings."""

    name: str
    description: str
    source: str
    settings: FinetuneSettings


def finetune_run(settings: FinetuneSettings, image_size: int | None) -> FinetuneRun:
    """Return the protocol with these settings, at another size of the views if one is given.

    Raises:
        InputError: two sizes, neither of which is the default of `size_px`.
    """
    if image_size is not None and settings.size_px not in (image_size, FinetuneSettings().size_px):
        raise InputError(
            f"image_size is {image_size} and finetune.size_px {settings.size_px}, but fine-tuning has one scale, at "
            "which it learns and is scored; give one of them, or run finetune by itself without image_size"
        )
    how = settings if image_size is None else replace(settings, size_px=image_size)
    return FinetuneRun(FINETUNE.name, FINETUNE.description, FINETUNE.source, how)


def trains_encoder(settings: FinetuneSettings) -> bool:
    """Say whether the encoder learns too."""
    return settings.trained_stages != 0 and settings.encoder_lr_scale > 0


def run_finetune(protocol: FinetuneRun, data: ProtocolData, settings: ProtocolSettings) -> ProtocolResult:
    """Train the encoder and a decoder on the training split, and score the last epoch's network at native size.

    Training goes on after the last whole epoch where the same call was stopped.

    Raises:
        InputError: an encoder that cannot be trained, or whatever `finetune_network` raises.
    """
    how, classes = protocol.settings, data.classes.labels
    encoder = trainable_encoder(data.encoder.settings, data.device)
    split = data.train_split()
    train = data.images(split)
    if train.labels is None:
        raise InputError(f"split {split} has no labels to fine-tune on; choose another --train_split")
    usable, broken = _readable(train)
    header = _header(encoder, how, len(classes), data)
    network = _network(encoder, header, settings.seed)
    checkpoint = _checkpoint(protocol, data, settings)
    make_folder(checkpoint.parent)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    outcome = finetune_network(
        make_fabric(how.precision),
        network,
        usable,
        train.labels,
        classes,
        how,
        settings.seed,
        checkpoint,
        lambda epoch, loss: console.print(f"finetune, epoch {epoch + 1} of {how.epochs}: loss {loss:.4f}"),
    )
    network.eval()
    rejected: list[Rejection] = []
    scores = score_images(
        _predictions(data, network, header, settings, rejected),
        data.classes.num_labels,
        data.classes.num_labels,
        "none",
        classes,
        settings.num_resamples,
        settings.seed,
        objects=data.objects() if settings.instances else None,
    )
    checkpoint.unlink(missing_ok=True)
    learned = f"encoder and {how.decoder} decoder" if trains_encoder(how) else f"{how.decoder} decoder"
    notes = outcome.notes
    if broken:
        notes += (f"{len(broken)} images of {split} were not learned from; the first: {broken[0].reason}",)
    return ProtocolResult(
        name=protocol.name,
        description=protocol.description,
        source=protocol.source,
        protocol=protocol,
        image_size_px=(how.size_px, how.size_px),
        fitted=f"{learned} on {len(usable)} images of split {split}; epochs: {how.epochs}",
        fit_labels=f"pixel labels of split {split}{', which train the encoder too' * trains_encoder(how)}",
        selection=f"{NOTHING_CHOSEN[:-1]}; weights of the last epoch)",
        matching=NO_MATCHING,
        uses_masks=False,
        scores=scores,
        miou=scores.scores.miou,
        left_out=tuple(rejected),
        notes=notes,
    )


def _predictions(
    data: ProtocolData,
    network: SegmentationNetwork,
    header: SegmentationNetworkHeader,
    settings: ProtocolSettings,
    rejected: list[Rejection],
) -> Iterator[LabelledPrediction]:
    """Yield the predictions of the scored images; those that cannot be read are added to `rejected`."""
    class_of_column = np.array(data.classes.labels, dtype=np.int64)
    for ref in data.scored.images:
        try:
            image = read_image(ref.path)
        except InputError as error:
            rejected.append(Rejection(ref.stem, str(error)))
            continue
        probabilities = class_probabilities(image, network, header)
        painted = class_of_column[most_likely(probabilities, (image.shape[0], image.shape[1])).labels]
        if settings.keep is not None:
            settings.keep(ref.stem, painted)
        yield LabelledPrediction(ref.stem, read_label(data.scored, ref), painted)


def _readable(images: ImageSet) -> tuple[tuple[ImageRef, ...], tuple[Rejection, ...]]:
    """Split images into those that can be decoded, and the others with the reason.

    Truncated files have a whole header, so each is decoded to its end, as it will be in every epoch.
    """
    readable, rejected = [], []
    for ref in images.images:
        try:
            read_image(ref.path)
        except InputError as error:
            rejected.append(Rejection(ref.stem, str(error)))
        else:
            readable.append(ref)
    return tuple(readable), tuple(rejected)


def _header(
    encoder: TrainableEncoder, how: FinetuneSettings, num_classes: int, data: ProtocolData
) -> SegmentationNetworkHeader:
    return SegmentationNetworkHeader(
        encoder=encoder.name,
        decoder=how.decoder,
        output_stride=encoder.output_stride,
        num_classes=num_classes,
        size_px=how.size_px,
        view_share=how.view_share,
        backbone=data.encoder.opened.supervision,
        masks="label maps",
    )


def _network(encoder: TrainableEncoder, header: SegmentationNetworkHeader, seed: int) -> SegmentationNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_segmentation_network(header)
    copy_run_encoder(network, encoder.encoder)
    return network


def _checkpoint(protocol: FinetuneRun, data: ProtocolData, settings: ProtocolSettings) -> Path:
    """Return the file of a training; another encoder, other settings or images have another one."""
    what = [plain(protocol), data.identity([data.train_split()], has_foreground=False), settings.seed]
    digest = hashlib.sha256(json.dumps(plain(what)).encode()).hexdigest()
    return data.settings.features.parent / f"finetune-{digest[:16]}.pt"
