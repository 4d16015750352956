"""Spectral clustering: two rings that k-means cuts, planted clusters, the same for a seed."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from densessl.evaluation.spectral_groups import spectral_groups


def rings(num: int = 300) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, num)
    angle, radius = rng.uniform(0, 2 * np.pi, num), np.where(truth == 0, 1.0, 4.0) + 0.05 * rng.normal(size=num)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32), truth


def test_separates_rings_that_kmeans_cuts() -> None:
    vectors, truth = rings()
    assert adjusted_rand_score(truth, spectral_groups(vectors, 2, seed=0)) == 1.0
    assert adjusted_rand_score(truth, KMeans(2, n_init=5, random_state=0).fit(vectors).labels_) < 0.3


@pytest.mark.parametrize("num_groups", [3, 6])
def test_planted_clusters_and_seed(num_groups: int) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, num_groups, 200)
    vectors = (5 * np.eye(8)[truth] + 0.3 * rng.normal(size=(200, 8))).astype(np.float32)
    found = spectral_groups(vectors, num_groups, seed=0)
    assert adjusted_rand_score(truth, found) == 1.0
    assert np.array_equal(found, spectral_groups(vectors, num_groups, seed=0))


def test_few_and_equal_vectors() -> None:
    assert sorted(spectral_groups(np.eye(4, dtype=np.float32)[:3], 2, seed=0).tolist())[-1] == 1
    assert len(spectral_groups(np.ones((6, 2), dtype=np.float32), 2, seed=0)) == 6
