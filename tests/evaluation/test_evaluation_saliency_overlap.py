"""Proposals against objects: overlaps by hand, boxes, and COCO's average recall."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.saliency_overlap import (
    Candidates,
    average_recalls,
    best_overlaps,
    is_localised,
    make_candidates,
    score_proposals,
)
from densessl.structures import MaskArray


def bar(start: int, stop: int, row: int = 0) -> MaskArray:
    """A mask of 4 x 20 pixels: one row from column `start` to `stop`."""
    mask = np.zeros((4, 20), dtype=bool)
    mask[row, start:stop] = True
    return mask


def candidates(proposals: list[MaskArray], objects: list[MaskArray], scores: list[float] | None = None) -> Candidates:
    descending = [1 - 0.01 * position for position in range(len(proposals))]
    return make_candidates(proposals, descending if scores is None else scores, objects, np.zeros((4, 20), dtype=bool))


def test_best_overlaps_by_hand() -> None:
    image = candidates([bar(0, 10), bar(2, 8), bar(0, 4, row=2)], [bar(0, 8), bar(0, 5, row=2), bar(15, 20, row=3)])
    assert best_overlaps(image) == pytest.approx([0.8, 0.8, 0])
    assert best_overlaps(candidates([], [bar(0, 8)])) == pytest.approx([0])
    assert best_overlaps(candidates([bar(0, 8)], [])).shape == (0,)


def test_average_recall_by_hand() -> None:
    # IoU 0.8 is a hit at 7 of COCO's 10 thresholds (0.5, 0.55, ..., 0.8), a perfect mask at all 10
    first = candidates([bar(0, 10), bar(0, 6, row=2)], [bar(0, 8), bar(0, 6, row=2)])
    second = candidates([], [bar(0, 3)])
    assert average_recalls([first]) == pytest.approx((0.35, 0.85, 0.85))
    assert average_recalls([first, second]) == pytest.approx((0.7 / 3, 1.7 / 3, 1.7 / 3))


def test_average_recall_takes_the_best_scores_first() -> None:
    many = [bar(column, column + 1, row=3) for column in range(12)]
    scores = [0.9] * 12 + [0.1]
    found = average_recalls([candidates([*many, bar(0, 8)], [bar(0, 8)], scores)])
    assert found == pytest.approx((0, 0, 1))  # the hit is the thirteenth


def test_localisation_is_of_the_best_scored_box() -> None:
    diagonal = np.eye(4, 20, dtype=bool)  # its box is 4 x 4
    square = np.zeros((4, 20), dtype=bool)
    square[:4, :4] = True
    assert is_localised(candidates([diagonal], [square]))
    assert is_localised(candidates([bar(0, 10)], [bar(0, 20)]))  # exactly 0.5
    assert not is_localised(candidates([bar(0, 9)], [bar(0, 20)]))
    assert not is_localised(candidates([bar(0, 9), bar(0, 20)], [bar(0, 20)]))
    assert is_localised(candidates([bar(0, 9), bar(0, 20)], [bar(0, 20)], [0.2, 0.3]))
    assert not is_localised(candidates([], [bar(0, 20)]))


def test_scores_over_images() -> None:
    images = [
        candidates([bar(0, 10)], [bar(0, 8), bar(15, 20, row=3)]),
        candidates([], [bar(0, 3)]),
        candidates([bar(0, 3)], []),  # no object: counts for nothing
    ]
    scores = score_proposals(images)
    assert scores.best_overlap == pytest.approx(0.8 / 3)
    assert scores.per_object == pytest.approx((0.8, 0, 0))
    assert scores.corloc == pytest.approx(0.5)
    assert scores.ar_100 == pytest.approx(0.7 / 3)
    assert (scores.num_images, scores.num_objects, scores.num_proposals) == (2, 3, 1)
    assert scores.num_images_without_proposals == 1
    assert "per_object" not in scores.to_json()


def test_no_proposals_at_all() -> None:
    scores = score_proposals([candidates([], [bar(0, 3)])])
    assert (scores.best_overlap, scores.corloc, scores.ar_1, scores.ar_100) == (0, 0, 0, 0)


def test_ignored_pixels_belong_to_no_mask() -> None:
    ignored = bar(8, 20)
    image = make_candidates([bar(0, 20)], [1.0], [bar(0, 8)], ignored)
    assert best_overlaps(image) == pytest.approx([1])
    assert is_localised(image)


def test_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    score_proposals([candidates([bar(0, 10)], [bar(0, 8)])])
    assert capsys.readouterr() == ("", "")


def test_errors() -> None:
    with pytest.raises(InputError, match="no image has an object, so proposals cannot be scored"):
        score_proposals([candidates([bar(0, 3)], [])])
    with pytest.raises(InputError, match="1 proposals have 2 scores"):
        candidates([bar(0, 3)], [], [0.5, 0.6])
    with pytest.raises(InputError, match=r"a mask is 5x5 and its image 4x20 \(height x width\)"):
        candidates([np.ones((5, 5), dtype=bool)], [])
