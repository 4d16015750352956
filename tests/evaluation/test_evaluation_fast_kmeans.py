"""Fast k-means: as good as scikit-learn, through samples too, the same on any number of threads."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from densessl.evaluation import fast_kmeans as module
from densessl.evaluation.fast_kmeans import fast_kmeans


def some_vectors(num: int = 3000) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(12, 6))
    return (centres[rng.integers(0, 12, num)] + rng.normal(size=(num, 6))).astype(np.float32)


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_SAMPLE", 100)
    monkeypatch.setattr(module, "VECTORS_PER_CLUSTER", 10)
    monkeypatch.setattr(module, "GROWTH", 3)


def test_samples_grow_to_the_whole(small_samples: None) -> None:
    assert module._sample_sizes(3000, 12) == [120, 360, 1080, 3000]
    assert module._sample_sizes(200, 12) == [200]
    assert module._sample_sizes(5, 5) == [5]


def test_inertia_is_no_worse_than_one_start_of_scikit_learn(small_samples: None) -> None:
    vectors = some_vectors()
    other = np.mean([KMeans(12, n_init=1, random_state=seed).fit(vectors).inertia_ for seed in range(5)])
    found = fast_kmeans(vectors, 12, seed=0)
    assert found.is_converged
    assert found.inertia <= other
    squared = ((vectors[:, None].astype(np.float64) - found.centroids[None]) ** 2).sum(-1)
    assert found.inertia == pytest.approx(squared.min(1).sum(), rel=1e-5)


def test_seed_decides_and_threads_do_not(small_samples: None) -> None:
    vectors = some_vectors()
    one, two = (fast_kmeans(vectors, 9, seed=2, num_threads=number) for number in (1, 2))
    assert np.array_equal(one.centroids, two.centroids)
    assert np.array_equal(one.assignments, two.assignments)
    assert not np.array_equal(one.centroids, fast_kmeans(vectors, 9, seed=3).centroids)


def test_a_set_smaller_than_the_first_sample_takes_the_best_start() -> None:
    vectors = some_vectors(300)
    one, many = (fast_kmeans(vectors, 12, seed=0, num_starts=number) for number in (1, 20))
    assert many.inertia <= one.inertia
    assert sorted(fast_kmeans(vectors[:4], 4, seed=0).assignments) == [0, 1, 2, 3]
