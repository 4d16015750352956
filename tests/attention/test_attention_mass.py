"""Masks that keep a share of the mass, against loops."""

import pytest
import torch

from densessl.attention.mass import head_ious, mass_mask
from densessl.errors import InputError


def loop(values: list[float], mass: float) -> list[bool]:
    """Take cells from the largest down, of equal ones the last first, until they hold the share."""
    kept, sum_kept = [False] * len(values), 0.0
    for index in sorted(range(len(values)), key=lambda index: (-values[index], -index)):
        if sum_kept >= mass * sum(values) - 1e-12:
            break
        kept[index] = True
        sum_kept += values[index]
    return kept


@pytest.mark.parametrize("mass", [0.05, 0.3, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(4, 4), (2, 9), (7, 3)])
def test_masks_are_those_of_a_loop(mass: float, shape: tuple[int, int]) -> None:
    maps = torch.rand(3, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masks = mass_mask(maps, mass)
    assert masks.shape == maps.shape
    for image in range(3):
        for head in range(2):
            expected = loop(maps[image, head].flatten().tolist(), mass)
            assert masks[image, head].flatten().tolist() == expected


def test_ties_and_maps_of_zeros() -> None:
    assert mass_mask(torch.ones(1, 5), 0.6).tolist() == [[False, False, True, True, True]]
    assert loop([1.0] * 5, 0.6) == [False, False, True, True, True]
    assert mass_mask(torch.zeros(2, 2)).all()
    assert mass_mask(torch.tensor([[0.0, 1.0]])).tolist() == [[False, True]]


def test_the_published_rule_gives_the_same() -> None:
    """DINO's: sort upwards, add up, keep what exceeds 1 - mass."""
    maps = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(1))
    value, order = maps.flatten(1).sort(dim=1)
    kept = (value / value.sum(1, keepdim=True)).cumsum(1) > 0.4
    back = order.argsort(dim=1)
    expected = torch.stack([kept[head][back[head]] for head in range(4)]).reshape(4, 6, 5)
    assert torch.equal(mass_mask(maps, 0.6), expected)


@pytest.mark.parametrize("mass", [0, -0.1, 1.2])
def test_other_shares_are_refused(mass: float) -> None:
    with pytest.raises(InputError, match=f"mass {mass} is not a share"):
        mass_mask(torch.ones(2, 2), mass)


def test_overlap_of_heads_by_hand() -> None:
    foreground = torch.tensor([[True, True, False, False]])
    masks = torch.tensor([[[True, True, False, False]], [[False, True, True, False]], [[False] * 4]])
    assert head_ious(masks, foreground).tolist() == pytest.approx([1, 1 / 3, 0])
    assert head_ious(masks[2:], torch.zeros(1, 4, dtype=torch.bool)).tolist() == [1]
