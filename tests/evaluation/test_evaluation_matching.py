"""Matching rules: hand-made matrices where they differ, all permutations as the slow reference."""

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.matching import UNMATCHED, match_clusters, merge_clusters, pairwise_iou


def test_pairwise_iou_by_hand() -> None:
    confusion = np.array([[6, 2], [0, 2], [0, 0]])
    assert pairwise_iou(confusion) == pytest.approx(np.array([[6 / 8, 2 / 10], [0, 2 / 4], [0, 0]]))


def test_none_is_identity() -> None:
    assert match_clusters(np.ones((2, 3), dtype=np.int64), "none") == (0, 1, UNMATCHED)


def test_rules_differ_on_this_matrix() -> None:
    # Cluster 0 is mostly class 0; so is cluster 1, which covers all of small class 1.
    confusion = np.array([[50, 40], [0, 30]])
    assert match_clusters(confusion, "hungarian") == (0, 1)
    assert match_clusters(confusion, "majority") == (0, 0)
    assert match_clusters(confusion, "highest_iou") == (0, 1)  # 30/70 beats 40/120


def test_hungarian_maximises_iou_not_pixels() -> None:
    # Pixels and IoU prefer crossed: 100 + 10 against 90 + 10, 100/200 + 10/110 = 0.59 against 90/200 + 10/120 = 0.53.
    assert match_clusters(np.array([[90, 100], [10, 10]]), "hungarian") == (1, 0)
    # Pixels prefer crossed, 92 + 0 against 90 + 1, IoU straight: 90/182 + 1/93 = 0.505, 92/183 + 0 = 0.503.
    assert match_clusters(np.array([[90, 92], [0, 1]]), "hungarian") == (0, 1)
    # Pixels tie, 6 + 4 = 8 + 2, and IoU decides for straight: 6/16 + 4/14 = 0.661, 8/18 + 2/12 = 0.611.
    assert match_clusters(np.array([[6, 8], [2, 4]]), "hungarian") == (0, 1)


def test_hungarian_counts_maximises_pixels_not_iou() -> None:
    # Straight: 10 + 55 = 65 pixels right, crossed: 60 + 1 = 61; IoU: 10/75 + 55/116 = 0.61, 60/121 + 1/70 = 0.51.
    assert match_clusters(np.array([[10, 60], [1, 55]]), "hungarian_counts") == (0, 1)
    # Straight: 90 + 1 = 91 pixels right, crossed: 92 + 0 = 92, but cluster 0 shares nothing with class 1: unmatched.
    confusion = np.array([[90, 92], [0, 1]])
    assert match_clusters(confusion, "hungarian_counts") == (UNMATCHED, 0)
    assert match_clusters(confusion, "hungarian") == (0, 1)  # 90/182 + 1/93 = 0.505, 92/183 + 0 = 0.503
    # Straight: 100 + 10 = 110, crossed: 60 + 55 = 115; IoU 100/215 + 10/125 = 0.55, 60/170 + 55/170 = 0.68.
    assert match_clusters(np.array([[100, 60], [55, 10]]), "hungarian_counts") == (1, 0)


def test_unnamed_columns_stand_for_no_class() -> None:
    # Column 0, the background of masks, holds most pixels of class 1, and would take it.
    confusion = np.array([[10, 60, 5], [70, 5, 30]])
    for rule in ("hungarian", "hungarian_counts", "majority", "highest_iou"):
        assert match_clusters(confusion, rule)[0] == 1
        assert match_clusters(confusion, rule, unnamed=(0,)) == (UNMATCHED, 0, 1)
    assert confusion[1, 0] == 70  # not written to


def test_majority_is_matching_by_precision() -> None:
    confusion = np.random.default_rng(0).integers(0, 30, (5, 40))
    precision = confusion / confusion.sum(axis=0)
    assert match_clusters(confusion, "majority") == tuple(precision.argmax(axis=0))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)])
def test_hungarian_equals_trying_all(shape: tuple[int, int]) -> None:
    confusion = np.random.default_rng(sum(shape)).integers(1, 50, shape)
    iou = pairwise_iou(confusion)
    assert_best(confusion, iou, match_clusters(confusion, "hungarian"))
    assert_best(confusion, confusion, match_clusters(confusion, "hungarian_counts"))


def assert_best(confusion: NDArray, value: NDArray, assignment: tuple[int, ...]) -> None:
    num_classes, num_clusters = confusion.shape
    matched = [(k, c) for c, k in enumerate(assignment) if k != UNMATCHED]
    assert len({k for k, _ in matched}) == len(matched) == min(num_classes, num_clusters)
    if num_classes >= num_clusters:
        best = max(sum(value[k, c] for c, k in enumerate(p)) for p in permutations(range(num_classes), num_clusters))
    else:
        best = max(sum(value[k, c] for k, c in enumerate(p)) for p in permutations(range(num_clusters), num_classes))
    assert sum(value[k, c] for k, c in matched) == pytest.approx(best, abs=1e-12)


def test_no_overlap_means_unmatched() -> None:
    confusion = np.array([[5, 0, 3], [0, 0, 0]])  # class 1 occurs nowhere, cluster 1 is empty
    assert match_clusters(confusion, "hungarian") == (0, UNMATCHED, UNMATCHED)
    assert match_clusters(confusion, "majority") == (0, UNMATCHED, 0)
    assert match_clusters(confusion, "highest_iou") == (0, UNMATCHED, 0)


def test_ties_take_the_lowest_class() -> None:
    assert match_clusters(np.array([[3], [3]]), "majority") == (0,)


def test_merge_sums_columns_and_keeps_every_pixel() -> None:
    confusion = np.array([[1, 2, 3], [4, 5, 6]])
    merged = merge_clusters(confusion, (1, 1, UNMATCHED))
    assert merged.tolist() == [[0, 3, 3], [0, 9, 6]]
    with pytest.raises(InputError, match=r"names 1 clusters.* has 3"):
        merge_clusters(confusion, (0,))


def test_errors() -> None:
    with pytest.raises(InputError, match=r"'best' is unknown.*hungarian"):
        match_clusters(np.ones((2, 2), dtype=np.int64), "best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\(classes, clusters\), got \(4,\)"):
        match_clusters(np.ones(4, dtype=np.int64), "hungarian")
