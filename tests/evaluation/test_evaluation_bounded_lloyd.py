"""Lloyd with bounds: equal to plain Lloyd and to scikit-learn, on any threads; empty clusters move."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from densessl.evaluation import bounded_lloyd
from densessl.evaluation.bounded_lloyd import lloyd


def some_vectors(num: int = 400, dim: int = 5, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(num, dim)) + 3 * rng.integers(0, 3, (num, 1))).astype(np.float32)


def slow_lloyd(vectors: NDArray, centroids: NDArray, num_passes: int) -> tuple[NDArray, NDArray]:
    points, centres = vectors.astype(np.float64), centroids.astype(np.float64)
    for _ in range(num_passes):
        nearest = ((points[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        centres = np.stack([points[nearest == k].mean(0) for k in range(len(centres))])
    return centres, ((points[:, None] - centres[None]) ** 2).sum(-1).argmin(1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_lloyd, "BLOCK_ROWS", 64)


@pytest.mark.parametrize("num_passes", [1, 2, 3, 10])
@pytest.mark.parametrize("num_clusters", [1, 2, 7])
def test_equals_a_slow_loop_after_each_pass(num_clusters: int, num_passes: int) -> None:
    vectors = some_vectors()
    start = vectors[:num_clusters]
    found = lloyd(vectors, start, max_passes=num_passes, tolerance=0)
    centres, nearest = slow_lloyd(vectors, start, num_passes)
    assert found.centroids == pytest.approx(centres, abs=1e-4)
    assert np.array_equal(found.assignments, nearest)


def test_equals_scikit_learn_from_the_same_start() -> None:
    vectors = some_vectors(600, 8, seed=1)
    other = KMeans(6, init=vectors[:6], n_init=1, algorithm="lloyd").fit(vectors)
    found = lloyd(vectors, vectors[:6], max_passes=300, tolerance=1e-4)
    assert found.is_converged
    assert found.inertia == pytest.approx(other.inertia_, rel=1e-5)
    assert found.centroids == pytest.approx(other.cluster_centers_, abs=1e-3)
    assert abs(found.num_passes - 1 - other.n_iter_) <= 1
    assert np.array_equal(found.assignments, other.labels_)


def test_inertia_and_assignments_are_those_of_the_centroids() -> None:
    vectors = some_vectors()
    found = lloyd(vectors, vectors[:9], max_passes=3, tolerance=1e-4)
    assert not found.is_converged
    squared = ((vectors[:, None].astype(np.float64) - found.centroids[None]) ** 2).sum(-1)
    assert np.array_equal(found.assignments, squared.argmin(1))
    assert found.inertia == pytest.approx(squared.min(1).sum(), rel=1e-5)


def test_threads_change_nothing() -> None:
    vectors = some_vectors()
    alone = lloyd(vectors, vectors[:9], max_passes=20, tolerance=1e-4)
    with ThreadPoolExecutor(3) as pool:
        shared = lloyd(vectors, vectors[:9], max_passes=20, tolerance=1e-4, over_blocks=pool.map)
    assert np.array_equal(alone.centroids, shared.centroids)
    assert np.array_equal(alone.assignments, shared.assignments)


def test_an_empty_cluster_moves_to_the_farthest_vector() -> None:
    vectors = np.array([[0.0], [0.1], [0.2], [9.0]], dtype=np.float32)
    start = np.array([[0.0], [100.0]], dtype=np.float32)  # nothing is nearest to 100
    found = lloyd(vectors, start, max_passes=10, tolerance=0)
    assert found.num_reseeded == 1
    assert found.assignments.tolist() == [0, 0, 0, 1]
    equal = lloyd(np.ones((5, 2), np.float32), np.ones((3, 2), np.float32), max_passes=5, tolerance=1e-4)
    assert equal.num_reseeded == 0  # nowhere to go
    assert equal.inertia == 0


def test_spherical_centroids_are_mean_directions() -> None:
    vectors = some_vectors(300, 4)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = lloyd(vectors, vectors[:4], max_passes=50, tolerance=0, is_spherical=True)
    assert np.linalg.norm(found.centroids, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert np.array_equal(found.assignments, (vectors @ found.centroids.T).argmax(1))
    for number in range(4):
        summed = vectors[found.assignments == number].sum(0)
        assert found.centroids[number] == pytest.approx(summed / np.linalg.norm(summed), abs=1e-4)
