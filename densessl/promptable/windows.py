"""Cutting a grid of tokens into square windows, and putting it together again.

Every size is written out, and none left to -1, so that an exported program can do both for grids of any size.
"""

import torch
from torch import nn


def split_windows(tokens: torch.Tensor, side: int) -> torch.Tensor:
    """Cut tokens (batch, height, width, dim) into windows (batch * num_windows, side, side, dim), in reading order.

    Zeros are added at the bottom and right until the sides are multiples of `side`; windows attend to them.
    """
    batch, height, width, dim = tokens.shape
    rows, columns = _num_windows(height, side), _num_windows(width, side)
    padded = nn.functional.pad(tokens, (0, 0, 0, columns * side - width, 0, rows * side - height))
    cut = padded.reshape(batch, rows, side, columns, side, dim)
    return cut.transpose(2, 3).reshape(batch * rows * columns, side, side, dim)


def join_windows(windows: torch.Tensor, side: int, grid: tuple[int, int, int]) -> torch.Tensor:
    """Undo `split_windows` for a grid of (batch, height, width) tokens."""
    batch, height, width = grid
    rows, columns, dim = _num_windows(height, side), _num_windows(width, side), windows.shape[-1]
    cut = windows.reshape(batch, rows, columns, side, side, dim)
    return cut.transpose(2, 3).reshape(batch, rows * side, columns * side, dim)[:, :height, :width]


def _num_windows(tokens: int, side: int) -> int:
    return (tokens + side - 1) // side
