"""Any timm backbone as image encoder of a promptable model: its last feature map on the 1/16 grid, and a neck."""

import torch
from torch import nn

from densessl.models.encoders import Encoder, build_encoder
from densessl.promptable.neck import build_neck

_STRIDE = 16


class BackboneEncoder(nn.Module):
    """Encode images (batch, 3, height, width), normalised, to (batch, channels, height / 16, width / 16).

    Sides of the images are multiples of 16. Features on another grid (patches of 8 or 14 pixels) are brought to this
    one by the mean over areas where they are finer, and bilinearly where they are coarser.

    """

    def __init__(self, encoder: Encoder, num_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = build_neck(encoder.num_channels, num_channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grid = (images.shape[-2] // _STRIDE, images.shape[-1] // _STRIDE)
        return self.neck(self._on_grid(self.encoder(images), grid))

    def _on_grid(self, features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        if self.encoder.stride == _STRIDE:
            return features
        if self.encoder.stride < _STRIDE:
            return nn.functional.adaptive_avg_pool2d(features, grid)
        return nn.functional.interpolate(features, grid, mode="bilinear")


def build_backbone_encoder(name: str, num_channels: int, *, pretrained: bool = False) -> BackboneEncoder:
    """Build the encoder of a timm name, with random weights or with timm's published ones (a download).

    Convolutional networks are dilated to an output stride of 16.

    Raises:
        InputError: an unknown name, or a network that cannot be dilated to 16.
    """
    return BackboneEncoder(build_encoder(name, output_stride=_STRIDE, pretrained=pretrained), num_channels)
