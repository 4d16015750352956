"""Spectral clustering: two rings that k-means cuts, planted clusters, the same for a seed."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import densessl.evaluation.spectral_groups as spectral_groups_module
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


@pytest.mark.parametrize("num_groups", [4, 5, 7])
def test_parts_of_the_graph_that_nothing_joins(num_groups: int) -> None:
    """Eigenvalue 1 then comes five times, of which Lanczos iterations miss some for one start or another."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 200)
    vectors = (50 * np.eye(5)[truth] + 0.3 * rng.normal(size=(200, 5))).astype(np.float32)
    for seed in range(10):
        found = spectral_groups(vectors, num_groups, seed)
        assert len(np.unique(found)) == num_groups
        pairs = len(np.unique(10 * truth + found))  # no more than needed to cut or to join whole parts
        assert pairs == max(5, num_groups)


def test_a_vector_that_nothing_is_near_takes_no_group() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 100)
    near = 5 * np.eye(2)[truth] + 1e-4 * rng.normal(size=(100, 2))
    far = np.array([[1e6, 0], [0, 1e6]])  # their weights are too small for a number
    found = spectral_groups(np.concatenate([near, far]).astype(np.float32), 2, seed=0)
    assert adjusted_rand_score(truth, found[:100]) == 1.0


def test_the_eigenvectors_are_those_of_a_dense_solver() -> None:
    vectors, _ = rings(60)
    adjacency = spectral_groups_module._affinities(vectors, 5)
    degrees = adjacency.toarray().sum(axis=1)
    values, dense = np.linalg.eigh(adjacency.toarray() / np.sqrt(np.outer(degrees, degrees)))
    found = spectral_groups_module._leading_eigenvectors(adjacency, 5, np.random.default_rng(0))
    assert values[-5] - values[-6] > 1e-3  # the leading five span one space
    assert np.abs(found.T @ found - np.eye(5)).max() < 1e-8
    assert np.abs(dense[:, -5:] @ (dense[:, -5:].T @ found) - found).max() < 1e-6


def test_few_and_equal_vectors() -> None:
    assert sorted(spectral_groups(np.eye(4, dtype=np.float32)[:3], 2, seed=0).tolist())[-1] == 1
    assert len(spectral_groups(np.ones((6, 2), dtype=np.float32), 2, seed=0)) == 6
