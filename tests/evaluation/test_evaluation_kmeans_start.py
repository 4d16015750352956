"""k-means++: chosen vectors, spread over planted clusters, repeated where there are not enough."""

import numpy as np

from densessl.evaluation.kmeans_start import kmeans_plus_plus


def test_finds_every_planted_cluster() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 8, 200)
    vectors = (20 * np.eye(8)[truth] + 0.1 * rng.normal(size=(200, 8))).astype(np.float32)
    start = kmeans_plus_plus(vectors, 8, np.random.default_rng(1))
    rows = [int(np.flatnonzero((vectors == centroid).all(axis=1))[0]) for centroid in start]
    assert sorted(truth[rows]) == list(range(8))


def test_seed_decides() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    first, second = (kmeans_plus_plus(vectors, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, kmeans_plus_plus(vectors, 5, np.random.default_rng(4)))


def test_equal_vectors_are_repeated() -> None:
    assert kmeans_plus_plus(np.ones((4, 2), np.float32), 3, np.random.default_rng(0)).tolist() == [[1, 1]] * 3
