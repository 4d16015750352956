"""Small holes and islands against the package segment-anything, whose regions are OpenCV's."""

import cv2
import numpy as np
import pytest
from segment_anything.utils.amg import remove_small_regions as published

from densessl.promptable.mask_runs import runs_of
from densessl.promptable.small_regions import regions, remove_small_regions
from densessl.structures import MaskArray


def blobs(height: int, width: int, share: float, seed: int) -> MaskArray:
    """Draw patches of a few pixels, with holes and islands."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (5, 5), 1.0)
    return smooth > np.quantile(smooth, 1 - share)


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (17, 23), (40, 31)])
@pytest.mark.parametrize("min_area_px", [1, 4, 15, 60])
def test_what_remains_is_the_published(size: tuple[int, int], min_area_px: int) -> None:
    for seed, share in enumerate((0.1, 0.3, 0.5, 0.8, 0.95)):
        mask = blobs(*size, share, seed)
        filled, had_holes = published(mask, min_area_px, mode="holes")
        expected, had_islands = published(filled, min_area_px, mode="islands")
        if had_islands and expected.sum() < min_area_px:
            continue  # all islands are small: which of several of the largest area stays is a choice
        runs = runs_of(mask)
        found = remove_small_regions(runs, min_area_px)
        assert np.array_equal(found.mask(), expected)
        assert (found is runs) == (not had_holes and not had_islands)


def test_the_largest_island_stays_where_all_are_small() -> None:
    mask = np.zeros((8, 9), dtype=np.bool_)
    mask[1, 6:8] = mask[5, 0:2] = mask[7, 4:7] = True
    assert remove_small_regions(runs_of(mask), 10).box == (4, 7, 7, 8)
    mask[7, 6] = False  # three of two pixels: the first in reading order
    assert remove_small_regions(runs_of(mask), 10).box == (6, 1, 8, 2)


def test_no_pixel_and_all_pixels_stay() -> None:
    for mask in (np.zeros((4, 5), dtype=np.bool_), np.ones((4, 5), dtype=np.bool_)):
        runs = runs_of(mask)
        found = remove_small_regions(runs, 3)
        assert np.array_equal(found.mask(), mask)


def test_regions_are_those_of_opencv() -> None:
    for seed in range(20):
        mask = np.random.default_rng(seed).random((19, 14)) < 0.45
        number, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        columns = runs_of(mask).by_column()
        found = regions(columns)
        assert len(np.unique(found)) == number - 1
        of_pixel = labels.T.ravel()[columns.starts]  # the same pairs of numbers throughout
        assert len(set(zip(found.tolist(), of_pixel.tolist(), strict=True))) == number - 1


def test_time_follows_runs_and_not_pixels() -> None:
    mask = np.zeros((3000, 4000), dtype=np.bool_)
    mask[100:2000, 300:3900] = True
    mask[500:503, 700:702] = False
    mask[2900, 3950] = True
    assert remove_small_regions(runs_of(mask), 7).area_px == 1900 * 3600
