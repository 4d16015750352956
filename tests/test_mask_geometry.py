"""Boxes around masks, and how deep their pixels lie, by hand and by a loop."""

import numpy as np
import pytest

from densessl.mask_geometry import depth, object_box
from densessl.structures import MaskArray


def _random_mask(seed: int) -> MaskArray:
    generator = np.random.default_rng(seed)
    mask = np.zeros((14, 17), dtype=np.bool_)
    for _ in range(3):
        top, left = generator.integers(0, 10, 2)
        mask[top : top + generator.integers(2, 7), left : left + generator.integers(2, 7)] = True
    return mask


def _depth_by_loop(region: MaskArray) -> np.ndarray:
    height, width = region.shape
    found = np.zeros(region.shape)
    outside = [
        (y, x)
        for y in range(-1, height + 1)
        for x in range(-1, width + 1)
        if not (0 <= y < height and 0 <= x < width and region[y, x])
    ]
    for y, x in np.argwhere(region):
        found[y, x] = min(np.hypot(y - other_y, x - other_x) for other_y, other_x in outside)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_depth_is_the_distance_to_the_nearest_pixel_outside(seed: int) -> None:
    np.testing.assert_allclose(depth(_random_mask(seed)), _depth_by_loop(_random_mask(seed)), atol=1e-5)


def test_nothing_has_no_depth() -> None:
    assert not depth(np.zeros((4, 5), dtype=np.bool_)).any()


def test_box_by_hand() -> None:
    mask = np.zeros((9, 12), dtype=np.bool_)
    mask[2:5, 3:11] = True
    assert object_box(mask) == (3, 2, 11, 5)
