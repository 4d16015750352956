"""Prompts: their forms, and what is said of wrong ones."""

from typing import Any

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.promptable.framing import Frame
from densessl.promptable.prompts import check_prompts, part_of_prompts

FRAME = Frame((40, 60), (171, 256), (256, 256))


def check(**given: Any) -> Any:
    return check_prompts(**({"points": None, "labels": None, "boxes": None, "mask": None} | given), frame=FRAME)


def test_one_prompt_is_a_batch_of_one() -> None:
    prompts = check(points=[[1, 2], [3, 4]], labels=[1, 0], boxes=[0, 0, 60, 40], mask=np.zeros((64, 64)))
    assert len(prompts) == 1
    assert prompts.points.tolist() == [[[1, 2], [3, 4]]]
    assert prompts.labels.tolist() == [[1, 0]]
    assert prompts.boxes.tolist() == [[0, 0, 60, 40]]
    assert prompts.masks.shape == (1, 64, 64)


def test_points_without_labels_are_on_the_object() -> None:
    assert check(points=[[[1, 2]], [[3, 4]]]).labels.tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no prompt is given; give points, boxes or a mask"),
        ({"labels": [1]}, "labels are given without points"),
        (
            {"points": [[60, 2]]},
            r"point \(60, 2\) lies outside the image of width 60 and height 40; x must be in \[0, 60",
        ),
        ({"points": [[1, 2], [3, -0.5]]}, r"point \(3, -0.5\) lies outside"),
        ({"points": [1, 2]}, r"points have shape \(2,\); give \(num_points, 2\)"),
        ({"points": np.zeros((1, 0, 2))}, "at least one point"),
        ({"points": np.zeros((0, 1, 2))}, r"\(points\) are of length 0"),
        ({"points": [[np.nan, 2]]}, "points hold values that are not finite"),
        ({"points": [[[1, 2]], [[3, 4], [5, 6]]]}, "points are no array of numbers"),
        ({"points": [["a", "b"]]}, "points are no array of numbers"),
        ({"points": [[1, 2], [3, 4]], "labels": [1]}, r"labels have shape \(1,\), points \(1, 2, 2\); give one label"),
        ({"points": [[[1, 2]], [[3, 4]]], "labels": [1, 0]}, r"labels have shape \(2,\), points \(2, 1, 2\)"),
        ({"points": [[1, 2]], "labels": [2]}, "label 2 is none of 1"),
        ({"points": [[1, 2]], "labels": [-1]}, "labels of -1 alone"),
        ({"boxes": [10, 10, 10, 20]}, r"box \(10, 10, 10, 20\) is empty; .* x0 < x1 and y0 < y1"),
        ({"boxes": [[1, 1, 2, 2], [9, 9, 1, 20]]}, r"box \(9, 9, 1, 20\) is empty"),
        ({"boxes": [0, 0, 61, 40]}, "reaches out of the image of width 60 and height 40"),
        ({"boxes": [1, 2, 3]}, r"boxes have shape \(3,\)"),
        ({"mask": np.zeros((40, 60))}, r"mask prompt has shape \(40, 60\); give logits of \(64, 64\)"),
        ({"mask": np.zeros((1, 1, 64, 64))}, r"mask prompt has shape \(1, 1, 64, 64\)"),
        ({"mask": np.full((64, 64), 255, np.uint8)}, "mask prompt is uint8, a mask itself and no logits"),
        ({"mask": np.ones((64, 64), bool)}, "mask prompt is bool, a mask itself and no logits"),
        ({"mask": np.full((64, 64), -1e39)}, "mask prompt holds values up to 1.0e\\+39, more than float32 can"),
        ({"points": [[1, 2]], "boxes": np.array([[0, 0, 9, 9]] * 2)}, "points of 1, boxes of 2; give each for all"),
    ],
)
def test_wrong_prompts_are_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(**given)


def test_a_part_has_its_prompts() -> None:
    points = np.arange(20.0).reshape(5, 2, 2)
    part = part_of_prompts(check_prompts(points, None, np.tile([0, 0, 9, 9], (5, 1)), None, FRAME), 3, 7)
    assert len(part) == 2
    assert part.points is not None
    assert part.labels is not None
    assert part.boxes is not None
    assert part.points.tolist() == points[3:].tolist()
    assert (part.labels.shape, part.boxes.shape, part.masks) == ((2, 2), (2, 4), None)
