"""The layers between a backbone and the mask decoder: its channels, and blocks through which cells see each other."""

import torch
from torch import nn

from densessl.models.residual_blocks import convnext_block
from densessl.promptable.channel_norm import ChannelNorm


def build_neck(in_channels: int, out_channels: int, num_blocks: int = 0) -> nn.Sequential:
    """Build 1x1 convolution, norm, 3x3 convolution, norm (ViTDet, arXiv:2203.16527, as SAM uses it), without biases.

    With `num_blocks`, so many ConvNeXt blocks (arXiv:2201.03545) and a norm follow.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        ChannelNorm(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        ChannelNorm(out_channels),
    ]
    if num_blocks:
        blocks = (convnext_block(out_channels) for _ in range(num_blocks))
        layers += [*blocks, ChannelNorm(out_channels)]
    return nn.Sequential(*layers)


class TopDownPath(nn.Module):
    """Brings what an embedding knows to finer maps, each of twice the side of the one before (arXiv:1612.03144).

    num_channels: of the embedding. levels: channels that each map has and is to have, the coarsest first.
    """

    def __init__(self, num_channels: int, levels: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        widths = [2 * wanted for _, wanted in levels]
        above = [num_channels, *widths[:-1]]
        self.lateral = nn.ModuleList(nn.Conv2d(levels[index][0], width, 1) for index, width in enumerate(widths))
        self.down = nn.ModuleList(nn.Conv2d(above[index], width, 1) for index, width in enumerate(widths))
        self.mix = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), ChannelNorm(width), nn.GELU()) for width in widths
        )
        self.out = nn.ModuleList(nn.Conv2d(width, width // 2, 3, padding=1) for width in widths)

    def forward(self, embedding: torch.Tensor, maps: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Return the maps in their wanted channels; map i is (batch, channels, 2^(i + 1) h, 2^(i + 1) w)."""
        above, found = embedding, []
        layers = zip(maps, self.lateral, self.down, self.mix, self.out, strict=True)
        for features, lateral, down, mix, out in layers:
            enlarged = nn.functional.interpolate(down(above), scale_factor=2.0, mode="bilinear")
            above = mix(lateral(features) + enlarged)
            found.append(out(above))
        return found
