"""An encoder to be looked at: its attention where it has one, its feature map, and what is to be said of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from densessl.errors import InputError
from densessl.models.dense_encoder import TimmSource, open_source
from densessl.models.encoders import Encoder
from densessl.models.precision import on_device
from densessl.models.vision_transformer import VisionTransformer
from densessl.models.weights import WeightReport


@dataclass(frozen=True)
class VisionEncoder:
    """A timm network in evaluation mode on a device.

    transformer: the network whose attention can be read; None where there is none.
    no_attention: why, in words; "" where there is a transformer.
    feature_map: maps normalised images (batch, 3, height, width) to features (batch, dim, grid height, grid width).
    stride: pixels of a cell of the grid.
    mean, std: of the colour channels, by which images in [0, 1] are normalised.
    description: what it is, in one line, with everything that changes its features.
    fingerprint: SHA-256 of the file of weights, or of the network's state.
    supervision: which labels touched the weights, in words.
    weights: what was loaded from a file; None where weights are random or timm's.
    """

    transformer: VisionTransformer | None
    no_attention: str
    feature_map: Callable[[torch.Tensor], torch.Tensor]
    stride: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    description: str
    fingerprint: str
    supervision: str
    weights: WeightReport | None
    device: torch.device

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (batch, 3, height, width) in [0, 1] as the network wants them, on its device."""
        mean, std = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (images.to(self.device) - mean) / std


def open_vision_encoder(source: TimmSource, device: torch.device) -> VisionEncoder:
    """Build a timm network with the weights of a source; a vision transformer keeps the position grid of its file.

    Raises:
        InputError: an unknown name, weights and `pretrained` together, a file that does not fit, a download that fails.
        MissingInputError: no such file.
    """
    opened = open_source(source, keep_grid=True)
    encoder = on_device(opened.encoder.eval().requires_grad_(False), device)
    transformer, reason = _transformer(encoder, source.name)
    return VisionEncoder(
        transformer,
        reason,
        encoder if transformer is None else _feature_map(transformer),
        encoder.stride,
        opened.mean,
        opened.std,
        opened.description,
        opened.fingerprint,
        opened.supervision,
        opened.report,
        device,
    )


def _transformer(encoder: Encoder, name: str) -> tuple[VisionTransformer | None, str]:
    try:
        return VisionTransformer(encoder.backbone, name), ""
    except InputError as error:  # said to the user, who gets feature energy instead
        return None, str(error)


def _feature_map(transformer: VisionTransformer) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda images: transformer.to_grid(transformer(images), (images.shape[-2], images.shape[-1]))
