"""Soft maps on the grid: the split becomes 0.5, and parts are told apart along edges."""

import numpy as np
import pytest

from densessl.saliency.patch_maps import JUST_BACKGROUND, keep_part, split_at


def test_split_by_hand():
    values = np.array([[-4.0, 2.0, 3.0], [-1.0, 6.0, 0.0]])
    np.testing.assert_allclose(split_at(values, 2), [[0, 0.5, 0.625], [0.25, 1, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize(("threshold", "expected"), [(5.0, 0.0), (1.0, 1.0), (3.0, 0.5)])
def test_one_sided_values(threshold, expected):
    soft = split_at(np.full((2, 3), 3.0), threshold)
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(soft, np.full((2, 3), expected))


def test_only_the_part_of_the_cell_stays():
    soft = np.array([[0.9, 0.9, 0.1, 0.7], [0.1, 0.2, 0.8, 0.3]], np.float32)  # 0.9 and 0.8 touch at a corner only
    kept = keep_part(soft, 1)
    expected = soft.copy()
    expected[0, 3] = expected[1, 2] = JUST_BACKGROUND
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(np.argwhere(keep_part(soft, 6) > 0.5), [[1, 2]])
