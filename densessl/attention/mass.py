"""Masks that hold a share of the attention, and how well they agree with masks of objects."""

import torch

from densessl.errors import InputError

PAPER_MASS = 0.6
"""The share that the figures of DINO keep (Caron et al. 2021, figure 3)."""


def mass_mask(maps: torch.Tensor, mass: float = PAPER_MASS) -> torch.Tensor:
    """Return the smallest sets of cells that hold at least a share of the sum of each map.

    The cells are taken from the largest value down; of equal values the later in reading order first. (DINO's published
    code takes the cells at which the sum from the smallest up exceeds 1 - mass: the same set.)

    Args:
        maps: float (..., height, width), at least 0.
        mass: in (0, 1].

    Returns:
        bool, shaped as the maps; of a map that is 0 everywhere all True.

    Raises:
        InputError: a share outside of (0, 1].
    """
    if not 0 < mass <= 1:
        raise InputError(f"mass {mass} is not a share; choose one above 0 and at most 1, such as {PAPER_MASS}")
    flat = maps.double().flatten(-2)
    order = flat.argsort(dim=-1, stable=True)  # from the smallest
    rising = flat.gather(-1, order).cumsum(-1)
    kept = rising > (1 - mass) * rising[..., -1:]
    kept |= rising[..., -1:] == 0
    if mass == 1:
        kept = torch.ones_like(kept)
    return torch.zeros_like(kept).scatter(-1, order, kept).reshape(maps.shape)


def head_ious(masks: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Return the IoU of each of several masks with one foreground.

    Args:
        masks: bool (heads, height, width).
        foreground: bool (height, width).

    Returns:
        float64 (heads,) in [0, 1]; 1 where both are empty.
    """
    intersection = (masks & foreground).flatten(1).sum(1).double()
    union = (masks | foreground).flatten(1).sum(1).double()
    return torch.where(union > 0, intersection / union.clamp_min(1), torch.ones_like(union))
