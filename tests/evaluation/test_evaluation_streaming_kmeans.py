"""Streaming k-means: planted clusters, any cutting of the stream, bounded memory, bad streams refused."""

import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from densessl.errors import InputError
from densessl.evaluation import streaming_kmeans as module
from densessl.evaluation.streaming_kmeans import draw_samples, streaming_kmeans, streaming_kmeans_of_seeds


def planted(num: int = 2000, dim: int = 6) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, num)
    return (4 * np.eye(dim)[truth] + 0.3 * rng.normal(size=(num, dim))).astype(np.float32), truth


def cut(vectors: NDArray, *sizes: int) -> list[NDArray]:
    return np.split(vectors, np.cumsum(sizes))


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_SAMPLE_ROWS", 200)
    monkeypatch.setattr(module, "SAMPLE_ROWS", 200)


@pytest.mark.parametrize("is_spherical", [False, True])
def test_finds_planted_clusters_and_counts_them(is_spherical: bool) -> None:
    vectors, truth = planted()
    found = streaming_kmeans(lambda: cut(vectors, 700, 1, 900), 5, 0, is_spherical=is_spherical)
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if is_spherical else vectors
    squared = ((points[:, None] - found.centroids[None]) ** 2).sum(-1)
    assert adjusted_rand_score(truth, squared.argmin(1)) == 1.0
    assert np.array_equal(found.sizes, np.bincount(squared.argmin(1)))
    assert found.inertia == pytest.approx(squared.min(1).sum(), rel=1e-5)
    if is_spherical:
        assert np.linalg.norm(found.centroids, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    else:
        assert found.inertia <= 1.02 * KMeans(5, n_init=5, random_state=0).fit(vectors).inertia_


def test_cutting_changes_nothing_and_the_seed_does() -> None:
    vectors = np.random.default_rng(1).normal(size=(1500, 4)).astype(np.float32)
    one = streaming_kmeans(lambda: [vectors], 7, 0, batch_rows=64)
    other = streaming_kmeans(lambda: cut(vectors, 1, 500, 0, 63), 7, 0, batch_rows=64)
    assert np.array_equal(one.centroids, other.centroids)
    assert one.inertia == other.inertia
    assert not np.array_equal(one.centroids, streaming_kmeans(lambda: [vectors], 7, 1).centroids)


def test_seeds_share_the_passes_and_give_what_each_gives_alone() -> None:
    vectors = np.random.default_rng(2).normal(size=(9000, 4)).astype(np.float32)
    num_started = 0

    def chunks() -> Iterable[NDArray]:
        nonlocal num_started
        num_started += 1
        return cut(vectors, 4000)

    together = streaming_kmeans_of_seeds(chunks, 6, [3, 0, 4], num_passes=2)
    assert num_started == 4  # sample, two of mini-batches, count
    for seed, found in zip([3, 0, 4], together, strict=True):
        alone = streaming_kmeans(lambda: cut(vectors, 4000), 6, seed, num_passes=2)
        assert np.array_equal(found.centroids, alone.centroids)
        assert (found.inertia, found.sizes.tolist()) == (alone.inertia, alone.sizes.tolist())


def test_the_sample_is_uniform_and_in_order() -> None:
    vectors = np.arange(1000, dtype=np.float32)[:, None]
    drawn = np.stack([sample[:, 0] for sample in draw_samples(lambda: cut(vectors, 300, 7), 50, range(200))[0]])
    assert (np.diff(drawn, axis=1) > 0).all()
    assert drawn.mean() == pytest.approx(499.5, abs=12)  # a standard error is 2.9
    assert draw_samples(lambda: cut(vectors, 300), 5000, [0])[1] == 1000


def test_memory_does_not_grow_with_the_stream() -> None:
    def peak(num_chunks: int) -> int:
        def chunks() -> Iterable[NDArray]:
            return (np.random.default_rng(i).normal(size=(500, 32)).astype(np.float32) for i in range(num_chunks))

        tracemalloc.start()
        streaming_kmeans(chunks, 4, 0, num_starts=1, num_passes=1)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(4)
    assert peak(60) < 1.2 * peak(6) < 60 * 500 * 32 * 4


def test_clusters_that_stay_empty_show() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 100, axis=0)
    found = streaming_kmeans(lambda: [vectors], 5, 0)
    assert sorted(found.sizes) == [0, 0, 100, 100, 100]
    assert found.inertia == pytest.approx(0, abs=1e-6)


def test_errors() -> None:
    vectors, _ = planted(20)
    with pytest.raises(InputError, match="stream of 20 vectors cannot form 21 clusters"):
        streaming_kmeans(lambda: [vectors], 21, 0)
    with pytest.raises(InputError, match=r"stream of 0 vectors cannot form 2"):
        streaming_kmeans(list, 2, 0)
    with pytest.raises(InputError, match=r"after 20 vectors has shape \(3, 2\); all must be \(number, 6\)"):
        streaming_kmeans(lambda: [vectors, np.zeros((3, 2))], 2, 0)
    broken = vectors.copy()
    broken[7, 2] = np.nan
    with pytest.raises(InputError, match="vector 27 of the stream holds NaN"):
        streaming_kmeans(lambda: [vectors, broken], 2, 0)
    once = iter([vectors])
    with pytest.raises(InputError, match=r"20 vectors at first and 0 .*not an iterator"):
        streaming_kmeans(lambda: once, 2, 0)
