"""Which encoder a command evaluates, and the one place that turns its name into an object."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from densessl.errors import InputError, MissingInputError
from densessl.evaluation.encoder_features import AutocastFeatures, CheckedFeatures, FeatureEncoder
from densessl.evaluation.network_features import FeatureMap, NetworkFeatures, PooledEmbedding
from densessl.files import file_sha256
from densessl.models.callable_encoder import callable_encoder, is_callable_name, named_encoder
from densessl.models.dense_encoder import (
    DenseEncoder,
    Normalisation,
    RenormalisedEncoder,
    TimmSource,
    timm_encoder,
)
from densessl.models.encoders import Encoder, check_encoder_name, patch_note
from densessl.models.exported_encoder import (
    EXPORT_SUFFIXES,
    TORCHSCRIPT_SUFFIXES,
    exported_encoder,
    torchscript_encoder,
)
from densessl.models.precision import Precision, choose_precision, on_device
from densessl.training.run_folder import load_run_model, read_config, read_run_record, run_method

EncoderKind = Literal["run", "timm", "torchscript", "export", "callable"]
_OTHERS = "a run folder, a TorchScript file (.pt, .ts), a torch.export file (.pt2) or module:function"
_ACCEPTED = f"a timm name, {_OTHERS}"


@dataclass(frozen=True)
class EncoderSettings:
    """The encoder whose dense features are evaluated.

    Args:
        encoder: a run folder of `pretrain`; a timm name such as resnet50 or vit_small_patch16_224.dino; a TorchScript
            file (.pt, .ts) or torch.export file (.pt2); or module:function, a Python function that maps images (batch,
            3, height, width), normalised by ImageNet's mean and standard deviation, to (batch, dim, h, w). In Python a
            callable too.
        weights: final or initial, of a run; or a file with the weights of a timm name, in any format that
            --model.weights takes. A timm name with neither that nor pretrained has random weights.
        pretrained: let timm download its published weights for that name.
        output_stride: image pixels per cell of a timm name's convolutional network (transformers: their patch size).
        normalisation: of the images that a timm name's network sees: imagenet, timm (what timm records for the name),
            or auto (timm for pretrained weights, and for a file where the name has a tag after a dot; else imagenet).
        features: of a run: embedding (the trained head), decoder or encoder (the backbone's last feature map).
        trust_file: open a TorchScript or torch.export file, which can run code when it is loaded.
        precision: fp32, bf16, or auto (bf16 for runs and timm names where the machine multiplies it in hardware; what a
            program or a function computes is left to it).
        seed: of random weights.
    """

    encoder: str | Callable[[torch.Tensor], torch.Tensor] = ""
    weights: Literal["final", "initial"] | Path = "final"
    pretrained: bool = False
    output_stride: Literal[8, 16, 32] = 8
    normalisation: Normalisation = "auto"
    features: FeatureMap = "embedding"
    trust_file: bool = False
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Make a file that is given as text a path; as neither a path nor a name it would be passed over."""
        if isinstance(self.weights, str) and self.weights not in ("final", "initial"):
            object.__setattr__(self, "weights", Path(self.weights))


def encoder_kind(encoder: str | Callable[..., Any]) -> EncoderKind:
    """Say what an encoder is, by its name and by what lies on the disk.

    Raises:
        MissingInputError: what looks like a path, and is none.
        InputError: a folder or file that is no encoder, or no timm name.
    """
    if not isinstance(encoder, str):
        return "callable"
    path = Path(encoder)
    if not encoder:
        raise InputError(f"no encoder is given; give {_ACCEPTED}")
    if path.is_dir() and ((path / "config.yaml").is_file() or not _is_timm_name(encoder)):
        return "run"  # said to be none where it is opened
    if path.suffix in TORCHSCRIPT_SUFFIXES:
        return "torchscript"
    if path.suffix in EXPORT_SUFFIXES:
        return "export"
    if is_callable_name(encoder):
        return "callable"
    if path.is_file():
        raise InputError(
            f"encoder {encoder} is a file that is neither TorchScript (.pt, .ts) nor torch.export (.pt2); a file of "
            "weights is given as weights, with the network's timm name as encoder"
        )
    if len(path.parts) > 1:
        raise MissingInputError(f"no encoder {encoder}; expected {_ACCEPTED}")
    try:
        check_encoder_name(encoder)
    except InputError as error:
        raise InputError(f"{error}; other encoders are {_OTHERS}") from error
    return "timm"


def open_encoder(settings: EncoderSettings, device: torch.device) -> FeatureEncoder:
    """Build or load the encoder of the settings on a device.

    Raises:
        InputError: settings that do not belong to that kind of encoder, or one that cannot be opened.
        MissingInputError: no such run or file.
    """
    settings = network_of_run(settings)
    kind = encoder_kind(settings.encoder)
    check_encoder_settings(settings, kind)
    name = settings.encoder if isinstance(settings.encoder, str) else ""
    match kind:
        case "run":
            opened = open_run_encoder(Path(name), str(settings.weights), settings.features, device)
        case "timm":
            opened = of_dense_encoder(timm_encoder(timm_source(settings), device), device)
            if isinstance(settings.weights, Path) and _is_dino_run(settings.weights.parent):
                opened = replace(opened, supervision=run_supervision(settings.weights.parent))
        case "torchscript":
            dense = torchscript_encoder(Path(name), device, is_trusted=settings.trust_file)
            opened = of_dense_encoder(dense, device)
        case "export":
            dense = exported_encoder(Path(name), device, is_trusted=settings.trust_file)
            opened = of_dense_encoder(dense, device)
        case "callable":
            function = settings.encoder
            dense = named_encoder(function, device) if isinstance(function, str) else callable_encoder(function, device)
            opened = of_dense_encoder(dense, device)
    return in_precision(opened, settings.precision, kind, device)


def in_precision(
    encoder: FeatureEncoder, precision: Precision, kind: EncoderKind, device: torch.device
) -> FeatureEncoder:
    """Return the encoder as it computes in the precision that was asked for, or in that which `auto` comes to."""
    if precision == "auto" and kind not in ("run", "timm"):
        precision = "fp32"
    chosen = choose_precision(precision, device)
    if chosen == "fp32":
        return encoder
    return replace(encoder, encode=AutocastFeatures(encoder.encode, device), precision=chosen)


def network_of_run(settings: EncoderSettings) -> EncoderSettings:
    """Return the settings of the network that a run of DINO left, its timm name and file; other settings as they are.

    Raises:
        InputError: a setting that such a run would pass over.
        MissingInputError: a run that is not finished.
    """
    if encoder_kind(settings.encoder) != "run" or not _is_dino_run(Path(str(settings.encoder))):
        return settings
    run = Path(str(settings.encoder))
    check_encoder_settings(settings, "run")
    if settings.features == "decoder":
        raise InputError(f"features is decoder, but run {run} was pretrained by dino and has none; use encoder")
    weights = run / f"{settings.weights}.safetensors"
    if not weights.is_file():
        raise MissingInputError(f"run {run} has no {weights.name}; its training did not finish, go on with it")
    return replace(
        settings, encoder=str(read_config(run)["model"]["encoder"]), weights=weights, normalisation="imagenet"
    )


@dataclass(frozen=True)
class TrainableEncoder:
    """A network that can learn further: its timm name, the stride it is built with, and itself with its weights."""

    name: str
    output_stride: Literal[8, 16, 32]
    encoder: Encoder


def trainable_encoder(settings: EncoderSettings, device: torch.device) -> TrainableEncoder:
    """Return the network of a timm name, or the encoder of a run, to be trained on.

    Raises:
        InputError: a program or a function, or a network whose images are not normalised by ImageNet's values.
    """
    settings = network_of_run(settings)
    kind = encoder_kind(settings.encoder)
    match kind:
        case "run":
            model, made = load_run_model(Path(str(settings.encoder)), str(settings.weights))
            return TrainableEncoder(made.encoder, made.output_stride, model.encoder)
        case "timm":
            network = timm_encoder(timm_source(settings), device).function
            if isinstance(network, RenormalisedEncoder) and network.is_imagenet:
                return TrainableEncoder(str(settings.encoder), settings.output_stride, network.encoder)
            raise InputError(
                f"encoder {settings.encoder} normalises images otherwise than by ImageNet's mean and deviation, which "
                "training views have; it cannot be trained here"
            )
    raise InputError(f"encoder {settings.encoder} is a {kind}; only networks of timm names and runs can be trained")


def of_dense_encoder(dense: DenseEncoder, device: torch.device) -> FeatureEncoder:
    """Return an encoder whose outputs are checked."""
    encode = CheckedFeatures(dense.function, dense.description)
    return FeatureEncoder(encode, dense.description, dense.fingerprint, dense.supervision, device=device)


def timm_source(settings: EncoderSettings) -> TimmSource:
    """Return where the network of a timm name comes from."""
    weights = settings.weights if isinstance(settings.weights, Path) else None
    return TimmSource(
        str(settings.encoder),
        settings.output_stride,
        weights,
        settings.pretrained,
        settings.normalisation,
        settings.seed,
    )


def run_supervision(run: Path) -> str:
    """Say which labels touched the network of a run, from its own record."""
    known = read_run_record(run).get("provenance", {})
    return f"first weights: {known.get('backbone', 'unknown')}; masks in training: {known.get('masks', 'unknown')}"


def open_run_encoder(run: Path, which: str, features: FeatureMap, device: torch.device) -> FeatureEncoder:
    """Load the network of a run: its final or initial weights, one of its feature maps, its saliency head.

    Raises:
        MissingInputError: no run, or one without these weights.
    """
    model, _ = load_run_model(run, which)
    network = NetworkFeatures(on_device(model, device), features)
    return FeatureEncoder(
        network,
        f"run {run.resolve().name}, {which} weights, {features}{patch_note(model.encoder)}",
        file_sha256(run / f"{which}.safetensors"),
        run_supervision(run),
        device=device,
        has_saliency=True,
        project=PooledEmbedding(model) if features == "embedding" and model.embedding_of == "masks" else None,
    )


def _is_dino_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and run_method(folder) == "dino"


def _is_timm_name(name: str) -> bool:
    try:
        check_encoder_name(name)
    except InputError:
        return False
    return True


def check_encoder_settings(settings: EncoderSettings, kind: EncoderKind) -> None:
    """Raise `InputError` for a setting that the encoder would pass over."""
    name = settings.encoder if isinstance(settings.encoder, str) else "a Python callable"
    if kind == "run":
        if isinstance(settings.weights, Path):
            raise InputError(f"weights {settings.weights} is given, but {name} is a run: it has final and initial")
    elif settings.weights == "initial":
        raise InputError(f"weights initial are those of a run, but encoder {name} is none; give a file or leave it out")
    if kind != "run" and settings.features == "decoder":
        raise InputError(f"features decoder are those of a run, but encoder {name} is none; leave it out")
    if kind != "timm":
        foreign = {
            "weights": isinstance(settings.weights, Path),
            "pretrained": settings.pretrained,
            "normalisation": settings.normalisation != "auto",
            "output_stride": settings.output_stride != EncoderSettings.output_stride,
        }
        for setting, is_given in foreign.items():
            if is_given:
                raise InputError(f"{setting} belongs to timm names, but encoder {name} is none; leave it out")
