"""Pseudo-labels: margins, what is kept, unsure pixels and painted maps, by hand and against slow loops."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.projection import Projection
from densessl.evaluation.protocols import NATIVE
from densessl.evaluation.pseudo_labels import (
    assignment_margins,
    check_enough,
    image_class,
    keep_most_confident,
    paint_pseudo_labels,
    unsure_pixels,
)
from densessl.structures import IGNORE


def _clustering(centroids: list[list[float]]) -> Clustering:
    return Clustering(np.zeros(0, np.int64), np.array(centroids, np.float32), 0.0, Projection(False, False), NATIVE, 0)


def test_margins_by_hand() -> None:
    found = _clustering([[0, 0], [10, 0], [0, 100]])
    vectors = np.array([[0, 0], [5, 0], [2, 0], [9, 0], [0, 100]])
    expected = [1, 0, 1 - 2 / 8, 1 - 1 / 9, 1]
    assert assignment_margins(vectors, found) == pytest.approx(expected)


def test_margins_of_one_cluster_and_of_equal_centroids() -> None:
    assert assignment_margins(np.array([[3.0, 4.0], [0, 0]]), _clustering([[0, 0]])) == pytest.approx([-5, 0])
    assert assignment_margins(np.array([[1.0, 1.0]]), _clustering([[1, 1], [1, 1]])) == pytest.approx([0])


def test_the_share_of_each_group_is_kept_and_none_dies() -> None:
    confidences = np.array([0.1, 0.9, 0.5, 0.5, 0.7, 0.2, 1.0])
    groups = np.array([0, 0, 0, 0, 1, 2, -1])
    kept = keep_most_confident(confidences, groups, 0.5)
    assert kept.tolist() == [False, True, True, False, True, True, False]  # of equals the earlier; -1 never
    assert keep_most_confident(confidences, groups, 1.0).tolist() == [True] * 6 + [False]
    assert keep_most_confident(np.zeros(0), np.zeros(0, np.int64), 0.5).tolist() == []


def test_a_soft_map_says_where_it_is_unsure() -> None:
    soft = np.array([[0.0, 0.39, 0.41, 0.5, 0.59, 0.61, 1.0]])
    unsure = unsure_pixels(np.ones((1, 7), np.int64), soft, 0.1, 3)
    assert unsure.tolist() == [[False, False, True, True, True, False, False]]
    assert not unsure_pixels(np.ones((1, 7), np.int64), soft, 0.0, 3).any()


@pytest.mark.parametrize("band_px", [0, 1, 2])
def test_without_one_a_band_around_outlines_is_unsure(band_px: int) -> None:
    generator = np.random.default_rng(0)
    instances = np.repeat(np.repeat(generator.integers(0, 3, (3, 4)), 5, axis=0), 4, axis=1)
    hard = (instances > 0).astype(np.float32)
    height, width = instances.shape
    expected = np.zeros(instances.shape, bool)
    for y in range(height):
        for x in range(width):
            window = instances[max(0, y - band_px) : y + band_px + 1, max(0, x - band_px) : x + band_px + 1]
            expected[y, x] = (window != instances[y, x]).any()
    for soft in (hard, None):
        assert np.array_equal(unsure_pixels(instances, soft, 0.1, band_px), expected)


def test_kept_masks_are_painted_and_the_rest_is_ignored() -> None:
    instances = np.array([[0, 1, 1], [2, 2, 3], [0, 0, 3]])
    unsure = np.zeros((3, 3), bool)
    unsure[0, 2] = unsure[2, 0] = True
    painted = paint_pseudo_labels(instances, [4, 0, -1], [True, False, True], unsure)
    assert painted.tolist() == [[0, 5, IGNORE], [IGNORE, IGNORE, IGNORE], [IGNORE, 0, IGNORE]]


def test_the_class_of_an_image() -> None:
    labels = np.array([[0, 0, 2], [2, 1, 0]])
    certainty = np.array([[1.0, 1.0, 0.6], [0.8, 0.4, 1.0]])
    assert image_class(labels, certainty) == (2, pytest.approx(0.6))
    assert image_class(np.zeros((2, 2), np.int64), np.ones((2, 2))) == (-1, 0.0)
    assert image_class(np.array([[2, 1]]), np.array([[0.5, 0.7]]))[0] == 1  # the lowest of equals


def test_too_few_confident_images() -> None:
    check_enough(3, 3, "round 1")
    with pytest.raises(InputError, match=r"round 2: 2 confident images cannot teach 3 clusters; ask for at most 3"):
        check_enough(2, 3, "round 2")
