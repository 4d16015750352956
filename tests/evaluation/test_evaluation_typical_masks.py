"""Medoids and the least typical masks, against a loop over all pairs."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.typical_masks import cluster_medoids, fit_to_cluster, least_typical


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 1.0, (14, 4)).astype(np.float32)


CLUSTERS = np.array([0, 0, 2, 2, 2, 5, 0, 2, 0, 0, 2, 2, 0, 2])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_equal_the_loop_over_pairs(vectors: np.ndarray) -> None:
    expected = [
        np.mean([cosine(vectors[i], vectors[j]) for j in range(14) if CLUSTERS[j] == CLUSTERS[i]]) for i in range(14)
    ]
    np.testing.assert_allclose(fit_to_cluster(vectors, CLUSTERS), expected, atol=1e-6)
    medoids = cluster_medoids(vectors, CLUSTERS)
    assert medoids == {c: max(np.flatnonzero(c == CLUSTERS).tolist(), key=lambda i: expected[i]) for c in (0, 2, 5)}
    worst = sorted((i for i in range(14) if CLUSTERS[i] != 5), key=lambda i: expected[i])
    assert least_typical(vectors, CLUSTERS, 4) == worst[:4]


def test_a_mask_alone_in_its_cluster_is_its_medoid_and_not_untypical(vectors: np.ndarray) -> None:
    alone = np.arange(14)
    assert cluster_medoids(vectors, alone) == {row: row for row in range(14)}
    assert least_typical(vectors, alone, 3) == []


def test_of_equals_the_first_is_the_medoid() -> None:
    assert cluster_medoids(np.ones((3, 2)), np.zeros(3, np.int64)) == {0: 0}


def test_other_numbers_of_clusters_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(InputError, match="got 3 cluster numbers for 14 vectors"):
        fit_to_cluster(vectors, CLUSTERS[:3])
