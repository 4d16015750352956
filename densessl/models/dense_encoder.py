"""Encoders that are no run of densessl: what they compute, what they are, what trained them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.models.encoders import Encoder, build_encoder, patch_note, whole_patches
from densessl.models.precision import on_device
from densessl.models.weights import WeightReport, load_encoder_weights

Normalisation = Literal["auto", "imagenet", "timm"]
_IMAGENET = (tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD))
_Colours = tuple[float, ...]


@dataclass(frozen=True)
class DenseEncoder:
    """A function from images to feature maps, and what is to be said of it.

    function: maps images (batch, 3, height, width), normalised by ImageNet's mean and standard deviation, to features
        (batch, dim, h, w); what it returns is not checked here.
    description: what it is, in one line, with everything that changes its features.
    fingerprint: SHA-256 of its weights or source; None where there is nothing to take it of.
    supervision: which labels touched its weights, in words.
    """

    function: Callable[[torch.Tensor], Any]
    description: str
    fingerprint: str | None
    supervision: str


@dataclass(frozen=True)
class TimmSource:
    """Where the weights of a timm network come from; the same source gives the same network again.

    name: timm name. output_stride: 8, 16 or 32, for convolutional networks.
    weights: a file, in any format of `densessl.models.weights`. pretrained: timm's published weights (a download).
        With neither, weights are random.
    normalisation: of the images that the network sees: imagenet, timm (what timm records for that name), or auto: timm
        with `pretrained`, and for a file where the name says which weights it means, after a dot
        (`vit_base_patch16_224.augreg_in21k`); else imagenet.
    seed: of random weights.
    """

    name: str
    output_stride: int = 8
    weights: Path | None = None
    pretrained: bool = False
    normalisation: Normalisation = "auto"
    seed: int = 0


class RenormalisedEncoder(nn.Module):
    """An encoder whose own mean and standard deviation replace ImageNet's, by which its images are normalised."""

    shift: torch.Tensor
    factor: torch.Tensor

    def __init__(self, encoder: Encoder, mean: _Colours, std: _Colours) -> None:
        super().__init__()
        self.encoder = encoder
        own_mean, own_std, mean_, std_ = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std, *_IMAGENET))
        self.is_imagenet = (tuple(mean), tuple(std)) == _IMAGENET
        self.register_buffer("factor", std_ / own_std, persistent=False)
        self.register_buffer("shift", (mean_ - own_mean) / own_std, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (batch, 3, height, width), normalised by ImageNet's values, to (batch, dim, h, w).

        The cells cover the image exactly: a transformer sees `whole_patches` of it.
        """
        images = whole_patches(images, self.encoder)
        return self.encoder(images if self.is_imagenet else images * self.factor + self.shift)


def timm_encoder(source: TimmSource, device: torch.device) -> DenseEncoder:
    """Build a timm network with the weights of a source, on a device, in evaluation mode.

    Raises:
        InputError: an unknown name, weights and `pretrained` together, a file that does not fit, a download that fails.
        MissingInputError: no such file.
    """
    opened = open_source(source)
    network = RenormalisedEncoder(opened.encoder, opened.mean, opened.std).eval().requires_grad_(False)
    description = f"{opened.description}{patch_note(opened.encoder)}"
    return DenseEncoder(on_device(network, device), description, opened.fingerprint, opened.supervision)


@dataclass(frozen=True)
class OpenedSource:
    """The network of a source with its weights, on the CPU, and what is to be said of it.

    mean, std: of the colour channels of the images that it was trained on. description: what it is, in one line, with
    everything that changes its features. fingerprint: SHA-256 of the file of weights, or of the network's state.
    supervision: which labels touched the weights, in words. report: what was loaded; None where no file was.
    """

    encoder: Encoder
    mean: _Colours
    std: _Colours
    description: str
    fingerprint: str
    supervision: str
    report: WeightReport | None


def open_source(source: TimmSource, *, keep_grid: bool = False) -> OpenedSource:
    """Build the network of a source and load its weights; with `keep_grid` a file's position grid stays as it is.

    Raises:
        InputError: an unknown name, weights and `pretrained` together, a file that does not fit, a download that fails.
        MissingInputError: no such file.
    """
    if source.weights is not None and source.pretrained:
        raise InputError(
            f"encoder {source.name} is given both weights {source.weights} and pretrained true; choose one of the two"
        )
    encoder = build_source(source)
    report = None
    if source.weights is not None:
        report = load_encoder_weights(encoder.backbone, source.weights, encoder_name=source.name, keep_grid=keep_grid)
        origin, supervision = f"weights {source.weights.name}", report.supervision
        fingerprint = file_sha256(source.weights)
    else:
        origin, supervision = f"random weights (seed {source.seed})", "none (random weights)"
        if source.pretrained:
            origin = "timm's published weights"
            supervision = f"timm's published weights for {source.name} (see its model card for their labels)"
        fingerprint = state_sha256(encoder)
    mean, std = image_colours(source, encoder)
    description = f"{source.name}, {origin}, stride {encoder.stride}, mean {_listed(mean)}, std {_listed(std)}"
    return OpenedSource(encoder, mean, std, description, fingerprint, supervision, report)


def state_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of a network's state: names, types, shapes and values, in the order of its definition."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build_source(source: TimmSource) -> Encoder:
    """Build the network of a source with random or timm's weights; those of a file are not loaded yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        try:
            encoder = build_encoder(source.name, output_stride=source.output_stride, pretrained=source.pretrained)
        except (OSError, RuntimeError) as error:  # no network, or timm has no weights for that name
            if not source.pretrained:
                raise
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"timm's weights for {source.name} cannot be had ({reason}); give a file with its weights instead"
            ) from error
    return encoder.eval()


def image_colours(source: TimmSource, encoder: Encoder) -> tuple[_Colours, _Colours]:
    """Return mean and standard deviation of the images that the weights were trained on."""
    names_weights = source.pretrained or (source.weights is not None and "." in source.name)
    match source.normalisation:
        case "imagenet":
            return _IMAGENET
        case "auto" if not names_weights:
            return _IMAGENET
    recorded: Any = encoder.backbone.pretrained_cfg
    return tuple(map(float, recorded["mean"])), tuple(map(float, recorded["std"]))


def _listed(values: _Colours) -> str:
    return "/".join(f"{value:g}" for value in values)
