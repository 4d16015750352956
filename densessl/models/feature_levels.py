"""The finer feature maps inside an encoder, at strides below that of its last one."""

from typing import NamedTuple

import torch

from densessl.errors import InputError
from densessl.models.encoders import Encoder

_PROBE_CELLS = 4


class FeatureLevel(NamedTuple):
    """A feature map: its place among timm's intermediate ones, its channels, and pixels of the image per cell."""

    place: int
    num_channels: int
    stride: int


def find_levels(encoder: Encoder, strides: tuple[int, ...], name: str) -> tuple[FeatureLevel, ...]:
    """Return the deepest feature map of each stride, found by encoding a blank image.

    Args:
        encoder: its mode and statistics stay as they are.
        strides: of the maps, in pixels, powers of two.
        name: of the encoder, for the error.

    Raises:
        InputError: an encoder that has no map at one of the strides, such as a vision transformer.
    """
    side = max(strides) * _PROBE_CELLS
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        _, maps = _intermediates(encoder, torch.zeros(1, 3, side, side), None)
    encoder.train(was_training)
    found = {side // maps[index].shape[-1]: index for index in range(len(maps)) if side % maps[index].shape[-1] == 0}
    missing = [stride for stride in strides if stride not in found]
    if missing:
        raise InputError(
            f"encoder {name} has no feature map at stride {missing[0]} (its strides are "
            f"{', '.join(map(str, sorted(found)))}); choose a convolutional network such as resnet18, or do without "
            "fine features"
        )
    return tuple(FeatureLevel(found[stride], maps[found[stride]].shape[1], stride) for stride in strides)


def encode_levels(
    encoder: Encoder, images: torch.Tensor, levels: tuple[FeatureLevel, ...]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the last feature map, as `encoder(images)` does, and those of the levels, (batch, channels, h, w) each."""
    return _intermediates(encoder, images, sorted(level.place for level in levels))


def _intermediates(
    encoder: Encoder, images: torch.Tensor, indices: list[int] | None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    last, maps = encoder.backbone.forward_intermediates(images, indices=indices)  # type: ignore[operator]
    if last.ndim == 4 and getattr(encoder.backbone, "output_fmt", "NCHW") == "NHWC":
        last = last.permute(0, 3, 1, 2)
    return last, maps
