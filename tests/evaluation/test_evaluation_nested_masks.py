"""Nested objects are matched with masks one to one, as many as possible above the threshold."""

from itertools import permutations

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.nested_masks import nested_match, pair_iou
from densessl.structures import MaskArray


def _disc(radius: float) -> MaskArray:
    y, x = np.mgrid[:32, :32] - 15.5
    return np.hypot(y, x) < radius


OBJECTS = (_disc(15), _disc(9), _disc(5))


def test_the_order_of_the_masks_does_not_matter() -> None:
    masks = (_disc(5), _disc(14.6), _disc(9.3), _disc(1))
    wanted = [pair_iou(masks[1], OBJECTS[0]), pair_iou(masks[2], OBJECTS[1]), 1.0]
    assert nested_match(masks, OBJECTS, 0.8).tolist() == pytest.approx(wanted)
    assert (nested_match(masks, OBJECTS, 0.8) > 0.8).all()


def test_a_mask_answers_one_object_only() -> None:
    assert int((nested_match((_disc(9), _disc(9), _disc(9)), OBJECTS, 0.8) > 0.8).sum()) == 1


@pytest.mark.parametrize("seed", range(5))
def test_no_other_matching_has_more_objects_above_the_threshold(seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = [_disc(radius) for radius in generator.uniform(3, 16, size=4)]
    iou = np.array([[pair_iou(mask, target) for mask in masks] for target in OBJECTS])
    best = max(
        (sum(iou[row, column] > 0.5 for row, column in enumerate(way)), iou[range(3), way].sum())
        for way in permutations(range(4), 3)
    )
    found = nested_match(masks, OBJECTS, 0.5)
    assert (int((found > 0.5).sum()), found.sum()) == pytest.approx(best)


def test_faults_are_told() -> None:
    with pytest.raises(InputError, match="3 objects cannot be matched one to one with 2 masks"):
        nested_match(OBJECTS[:2], OBJECTS, 0.8)
    with pytest.raises(InputError, match=r"shapes \(32, 32\) and \(3, 3\)"):
        pair_iou(OBJECTS[0], np.ones((3, 3), dtype=np.bool_))
    assert pair_iou(np.zeros((3, 3), dtype=np.bool_), np.zeros((3, 3), dtype=np.bool_)) == 0
