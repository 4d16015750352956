"""Boxes around masks, and how deep their pixels lie, by hand and by a loop."""

import numpy as np
import pytest
from mask_loops import depth_by_loop, random_mask

from densessl.mask_geometry import depth, object_box


@pytest.mark.parametrize("seed", range(4))
def test_depth_is_the_distance_to_the_nearest_pixel_outside(seed: int) -> None:
    np.testing.assert_allclose(depth(random_mask(seed)), depth_by_loop(random_mask(seed)), atol=1e-5)


def test_nothing_has_no_depth() -> None:
    assert not depth(np.zeros((4, 5), dtype=np.bool_)).any()


def test_box_by_hand() -> None:
    mask = np.zeros((9, 12), dtype=np.bool_)
    mask[2:5, 3:11] = True
    assert object_box(mask) == (3, 2, 11, 5)
