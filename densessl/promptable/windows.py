"""Cutting a grid of tokens into square windows, and putting it together again."""

import torch
from torch import nn


def split_windows(tokens: torch.Tensor, side: int) -> torch.Tensor:
    """Cut tokens (batch, height, width, dim) into windows (batch * num_windows, side, side, dim), in reading order.

    Zeros are added at the bottom and right until the sides are multiples of `side`; windows attend to them.
    """
    height, width = tokens.shape[1:3]
    padded = nn.functional.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
    batch, height, width, dim = padded.shape
    cut = padded.reshape(batch, height // side, side, width // side, side, dim)
    return cut.transpose(2, 3).reshape(-1, side, side, dim)


def join_windows(windows: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Undo `split_windows` for a grid of `height` x `width` tokens."""
    side, dim = windows.shape[1], windows.shape[-1]
    rows, columns = -(-height // side), -(-width // side)
    cut = windows.reshape(-1, rows, columns, side, side, dim)
    padded = cut.transpose(2, 3).reshape(-1, rows * side, columns * side, dim)
    return padded[:, :height, :width]
