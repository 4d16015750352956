"""The simulated user clicks where a loop over all pixels says, and stops at a perfect mask."""

from collections.abc import Sequence

import numpy as np
import pytest
from mask_loops import depth_by_loop, random_mask

from densessl.errors import InputError
from densessl.evaluation.simulated_clicks import Click, click_scores, next_click
from densessl.structures import MaskArray


@pytest.mark.parametrize("seed", range(6))
def test_the_click_is_the_deepest_point_of_the_largest_error(seed: int) -> None:
    target, mask = random_mask(seed), random_mask(seed + 100)
    missed, surplus = depth_by_loop(target & ~mask), depth_by_loop(mask & ~target)
    click = next_click(mask, target)
    assert click is not None
    assert click.is_foreground == (missed.max() >= surplus.max())
    chosen = missed if click.is_foreground else surplus
    assert chosen[click.y, click.x] == pytest.approx(max(missed.max(), surplus.max()))


def test_void_pixels_are_neither_clicked_nor_counted() -> None:
    target = np.zeros((9, 9), dtype=np.bool_)
    target[2:7, 2:7] = True
    ignored = np.zeros_like(target)
    ignored[:, 5:] = True
    click = next_click(np.zeros_like(target), target, ignored)
    assert click is not None
    assert click.x == 3
    found = click_scores(lambda clicks: target & ~ignored, target, 2, ignored)
    assert found.tolist() == [1, 1]
    assert click_scores(lambda clicks: target & ~ignored, target, 1)[0] == pytest.approx(0.6)


def test_scores_follow_the_masks_and_each_call_has_one_click_more() -> None:
    target = np.zeros((8, 8), dtype=np.bool_)
    target[1:7, 1:7] = True
    seen: list[tuple[Click, ...]] = []

    def segment(clicks: Sequence[Click]) -> MaskArray:
        seen.append(tuple(clicks))
        mask = np.zeros_like(target)
        mask[1 : 1 + 2 * len(clicks), 1:7] = True
        return mask

    assert click_scores(segment, target, 5).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])
    assert [len(clicks) for clicks in seen] == [1, 2, 3]  # then nothing is wrong any more
    assert seen[1][0] == seen[0][0]
    assert all(click.is_foreground for click in seen[-1])
    first = Click(6, 1, True)
    click_scores(segment, target, 2, first=first)
    assert seen[-1] == (first, seen[1][1])  # after it the protocol goes on


def test_an_empty_object_is_told() -> None:
    with pytest.raises(InputError, match="the object to click on is empty"):
        next_click(np.ones((3, 3), dtype=np.bool_), np.zeros((3, 3), dtype=np.bool_))
