"""Finer feature maps travel folded into the grid of the image embedding, so that an embedding is one tensor.

An embedding with them has 4 dim channels: dim of its own, dim of the map at stride 8 (dim / 4 channels, each cell of
the grid holding 2 x 2 of its cells) and 2 dim of the map at stride 4 (dim / 8 channels, 4 x 4 cells).
"""

from typing import NamedTuple

import torch
from torch import nn

FINE_STRIDES = (8, 4)
"""Of the finer maps, in pixels; the embedding's own is 16."""


def pack_features(embedding: torch.Tensor, eighth: torch.Tensor, quarter: torch.Tensor) -> torch.Tensor:
    """Fold maps (batch, dim / 4, 2 h, 2 w) and (batch, dim / 8, 4 h, 4 w) into an embedding (batch, dim, h, w).

    Returns (batch, 4 dim, h, w). Nothing is lost, and gradients flow to all three.
    """
    folded = nn.functional.pixel_unshuffle(eighth, 2), nn.functional.pixel_unshuffle(quarter, 4)
    return torch.cat([embedding, *folded], dim=1)


class FineCells(NamedTuple):
    """Finer maps as the decoder adds them: cells in the order of the grid, each parted in 2 x 2, and those once more.

    eighth: (batch, h * w * 4, dim / 4). quarter: (batch, h * w * 16, dim / 8).
    """

    eighth: torch.Tensor
    quarter: torch.Tensor


def unpack_features(packed: torch.Tensor, dim: int) -> tuple[torch.Tensor, FineCells]:
    """Undo `pack_features`, the finer maps cell by cell."""
    embedding, eighth, quarter = packed.split([dim, dim, 2 * dim], dim=1)
    halves = eighth.permute(0, 2, 3, 1).unflatten(3, (-1, 2, 2))  # (batch, h, w, channels, y, x)
    quarters = quarter.permute(0, 2, 3, 1).unflatten(3, (-1, 2, 2, 2, 2))  # ..., channels, y, finer y, x, finer x
    return embedding, FineCells(
        halves.permute(0, 1, 2, 4, 5, 3).flatten(1, 4), quarters.permute(0, 1, 2, 4, 6, 5, 7, 3).flatten(1, 6)
    )
