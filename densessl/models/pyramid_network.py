"""A feature pyramid on a timm encoder, that gives logits at a quarter of an image's height and width."""

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

PYRAMID_CHANNELS = 64
"""Of every level and of their sum; the usual 256 would cost more than the encoder does."""
_FIRST_LEVEL = 2
"""Strides 4, 8, 16 and 32 are joined; levels 0 and 1 are the image and stride 2."""


class PyramidDecoder(nn.Module):
    """Sums a feature pyramid up: each level, brought to one number of channels, is added to the coarser sum enlarged.

    The top-down pathway of feature pyramid networks (Lin et al., CVPR 2017, arXiv:1612.03144, section 3), of which the
    finest level alone is kept.

    Args:
        level_channels: of the levels, from fine to coarse; each has half the height and width of the one before.
    """

    def __init__(self, level_channels: list[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(channels, PYRAMID_CHANNELS, 1) for channels in level_channels])
        self.smooth = nn.Sequential(
            nn.Conv2d(PYRAMID_CHANNELS, PYRAMID_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(PYRAMID_CHANNELS),
            nn.ReLU(inplace=True),
        )

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """Map levels (batch, channels, height, width), from fine to coarse, to features of the finest level's size."""
        total: torch.Tensor = self.lateral[-1](levels[-1])
        for lateral, level in zip(reversed(self.lateral[:-1]), reversed(levels[:-1]), strict=True):
            total = _enlarge(total, level.shape[-2:]) + lateral(level)
        features: torch.Tensor = self.smooth(total)
        return features


class PyramidNetwork(nn.Module):
    """An encoder, a `PyramidDecoder` and a head, with the names that segmentation_models_pytorch gives its networks.

    Args:
        encoder: timm name of a convolutional encoder, with `tu-` before it.
        num_maps: logits for each pixel.
    """

    def __init__(self, encoder: str, num_maps: int = 1) -> None:
        super().__init__()
        self.encoder = get_encoder(encoder, weights=None)
        _open_branches(self.encoder)
        self.decoder = PyramidDecoder(list(self.encoder.out_channels[_FIRST_LEVEL:]))
        self.segmentation_head = nn.Sequential(nn.Conv2d(PYRAMID_CHANNELS, num_maps, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 3, height, width), sides multiples of 32, to logits (batch, num_maps, height, width)."""
        logits = self.segmentation_head(self.decoder(self.encoder(images)[_FIRST_LEVEL:]))
        return _enlarge(logits, images.shape[-2:])


def _open_branches(encoder: nn.Module) -> None:
    """Let residual branches count from the first step on.

    Timm begins those of a ResNet at 0, from where they learned more slowly here (docs/decisions.md).
    """
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None and not module.weight.any():
            nn.init.ones_(module.weight)


def _enlarge(maps: torch.Tensor, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    return nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
