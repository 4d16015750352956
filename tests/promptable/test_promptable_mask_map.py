"""Maps of overlapping masks."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.promptable.mask_map import MAX_MAP_MASKS, MapSettings, mask_map
from densessl.promptable.mask_runs import MaskRuns, runs_of

SIZE = (20, 30)


def rectangle(y0: int, x0: int, y1: int, x1: int) -> MaskRuns:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return runs_of(mask)


WHOLE, PART, APART = rectangle(2, 2, 16, 20), rectangle(4, 4, 8, 8), rectangle(10, 22, 15, 28)


def test_the_whole_covers_its_part() -> None:
    found = mask_map([PART, WHOLE, APART], SIZE, MapSettings())
    expected = np.zeros(SIZE)
    expected[2:16, 2:20] = 1
    expected[10:15, 22:28] = 2
    assert np.array_equal(found, expected)
    assert found.dtype == np.uint16


def test_the_part_is_seen_on_the_whole() -> None:
    found = mask_map([PART, WHOLE, APART], SIZE, MapSettings(overlap="part"))
    expected = np.zeros(SIZE)
    expected[2:16, 2:20] = 3
    expected[4:8, 4:8] = 1
    expected[10:15, 22:28] = 2
    assert np.array_equal(found, expected)


def test_masks_out_of_range_and_fragments_are_left_out() -> None:
    everything, pixel = rectangle(0, 0, 20, 30), rectangle(0, 0, 1, 1)
    fragment = rectangle(2, 15, 16, 24)  # 5 of 9 columns are the whole's
    found = mask_map([everything, pixel, fragment, WHOLE], SIZE, MapSettings(min_area=0.01))
    assert np.unique(found).tolist() == [0, 1]
    assert (found == 1).sum() == WHOLE.area_px


def test_there_may_be_no_mask() -> None:
    assert not mask_map([], SIZE, MapSettings()).any()
    assert not mask_map([rectangle(0, 0, 0, 0)], SIZE, MapSettings(min_area=0)).any()


def test_no_more_masks_than_pretrain_takes() -> None:
    masks = [rectangle(y, x, y + 1, x + 1) for y in range(20) for x in range(30)]
    found = mask_map(masks, SIZE, MapSettings())
    assert found.max() == MAX_MAP_MASKS
    assert len(np.unique(found)) == MAX_MAP_MASKS + 1


def test_areas_out_of_range_are_told() -> None:
    with pytest.raises(InputError, match=r"map.min_area 0.5 and map.max_area 0.1 are fractions"):
        MapSettings(min_area=0.5, max_area=0.1)
