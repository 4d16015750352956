"""Masks as runs against arrays and pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from densessl.promptable.mask_runs import MaskRuns, runs_of
from densessl.structures import MaskArray

SIZES = [(1, 1), (1, 7), (7, 1), (5, 8), (13, 6)]


def masks(height: int, width: int) -> list[MaskArray]:
    generator = np.random.default_rng(height * width)
    drawn = [generator.random((height, width)) < share for share in (0.1, 0.5, 0.9)]
    middle = np.zeros((height, width), dtype=np.bool_)
    middle[height // 3 : height // 3 + 2, width // 2 :] = True
    return [*drawn, middle, np.zeros_like(middle), np.ones_like(middle)]


def box_of(mask: MaskArray) -> tuple[int, ...]:
    if not mask.any():
        return 0, 0, 0, 0
    y, x = np.nonzero(mask)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


@pytest.mark.parametrize("size", SIZES)
def test_runs_are_the_mask(size: tuple[int, int]) -> None:
    for mask in masks(*size):
        runs = runs_of(mask)
        assert np.array_equal(runs.mask(), mask)
        assert np.array_equal(runs.inverse().mask(), ~mask)
        assert np.array_equal(runs.by_column().mask(), mask)
        assert runs.area_px == mask.sum()
        assert runs.box == runs.by_column().box == box_of(mask)
        joined = runs.by_column().joined()
        assert np.array_equal(joined.starts, runs.starts)
        assert np.array_equal(joined.ends, runs.ends)


@pytest.mark.parametrize("size", SIZES)
def test_run_lengths_are_those_of_pycocotools(size: tuple[int, int]) -> None:
    for mask in masks(*size):
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert runs_of(mask).coco() == {"size": list(size), "counts": encoded["counts"].decode("ascii")}


def test_run_lengths_by_hand() -> None:
    mask = np.array([[1, 0, 1], [0, 0, 1]], dtype=np.bool_)  # columns 10, 00, 11
    runs = runs_of(mask)
    assert runs.counts().tolist() == [0, 1, 3, 2]
    assert runs_of(~mask).counts().tolist() == [1, 3, 2]
    assert runs.coco()["size"] == [2, 3]


def test_columns_end_runs() -> None:
    columns = runs_of(np.ones((2, 3), dtype=np.bool_)).by_column()
    assert columns.starts.tolist() == [0, 2, 4]
    assert columns.ends.tolist() == [2, 4, 6]


@pytest.mark.parametrize("crop", [(0, 0, 4, 3), (2, 1, 6, 4), (5, 0, 9, 7), (0, 0, 9, 7)])
def test_a_mask_of_a_crop_is_placed(crop: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = crop
    for mask in masks(y1 - y0, x1 - x0):
        whole = np.zeros((7, 9), dtype=np.bool_)
        whole[y0:y1, x0:x1] = mask
        placed, expected = runs_of(mask).placed(crop, (7, 9)), runs_of(whole)
        assert placed.size == (7, 9)
        assert np.array_equal(placed.starts, expected.starts)
        assert np.array_equal(placed.ends, expected.ends)


def test_runs_of_a_large_image_take_no_array_of_its_size() -> None:
    runs = MaskRuns((10**6, 10**6), np.array([5 * 10**6 + 3]), np.array([7 * 10**6 + 4]))
    assert runs.area_px == 2 * 10**6 + 1
    assert runs.box == (5, 0, 8, 10**6)
    assert runs.placed((0, 0, 10**6, 10**6), (10**6, 10**6)) is runs
