"""k-means for millions of vectors: many starts on samples, the best one refined on larger ones, then on all."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from densessl.evaluation.bounded_lloyd import LloydFit, lloyd
from densessl.evaluation.kmeans_start import kmeans_plus_plus
from densessl.machine import num_cores

VECTORS_PER_CLUSTER = 256
"""Vectors for each cluster in the smallest sample."""
STARTED_PER_CLUSTER = 32
"""Of these, the vectors for each cluster among which k-means++ chooses."""
LEAST_SAMPLE = 8192
GROWTH = 8
"""How many times larger each sample is than the one before."""
KEPT = 3
"""Starts that go on to the second sample; one goes on from there."""
TOLERANCE = 1e-4
"""That of scikit-learn's KMeans."""


def fast_kmeans(
    vectors: NDArray[np.float32],
    num_clusters: int,
    seed: int,
    *,
    num_starts: int = 8,
    max_passes: int = 300,
    tolerance: float = TOLERANCE,
    is_spherical: bool = False,
    num_threads: int | None = None,
) -> LloydFit:
    """Cluster vectors (num_vectors, dim), finite float32; a seed gives the same clusters on any number of threads.

    `num_starts` greedy k-means++ starts run on a sample of 256 vectors for each cluster; the 3 of lowest inertia go
    on to a sample 8 times as large, the best of these to larger ones and then to all vectors, each time until the
    centroids rest (`bounded_lloyd.lloyd`). The last stage is plain Lloyd on all vectors to the tolerance of
    scikit-learn, so the result is a local optimum of the whole set; the samples only decide which one. Sets smaller
    than the first sample are their own sample, and the best start is returned.

    A cluster that runs empty is moved to the vector farthest from its centroid; it stays empty only where no vector
    lies apart from its centroid. `num_threads` None takes the processors this process may use.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(vectors))
    sizes = _sample_sizes(len(vectors), num_clusters)
    seeds = rng.integers(2**63, size=num_starts).tolist()
    fit = partial(lloyd, max_passes=max_passes, tolerance=tolerance, is_spherical=is_spherical)
    with threadpool_limits(limits=1), ThreadPoolExecutor(num_threads or num_cores()) as pool:
        sample = _rows(vectors, order, sizes[0])
        mean = sample.mean(axis=0)
        eligible = _rows(vectors, order, min(sizes[0], max(LEAST_SAMPLE, STARTED_PER_CLUSTER * num_clusters))) - mean

        def start(own_seed: int) -> LloydFit:
            return fit(sample, kmeans_plus_plus(eligible, num_clusters, np.random.default_rng(own_seed)) + mean)

        fits = _ranked(pool.map(start, seeds))
        for size in sizes[1:]:
            kept = fits[:1] if size == len(vectors) else fits[:KEPT]
            rows = _rows(vectors, order, size)
            fits = _ranked(fit(rows, found.centroids, over_blocks=pool.map) for found in kept)[:1]
    return fits[0]


def _sample_sizes(num_vectors: int, num_clusters: int) -> list[int]:
    """Return the sizes of the samples, each `GROWTH` times the one before, and the whole at the end."""
    sizes = [max(LEAST_SAMPLE, VECTORS_PER_CLUSTER * num_clusters)]
    while sizes[-1] * GROWTH * 2 <= num_vectors:
        sizes.append(sizes[-1] * GROWTH)
    return [num_vectors] if sizes[0] * 2 > num_vectors else [*sizes, num_vectors]


def _rows(vectors: NDArray[np.float32], order: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Return `size` of the vectors, drawn by a random order; all of them without a copy."""
    return vectors if size == len(vectors) else vectors[np.sort(order[:size])]


def _ranked(fits: Iterable[LloydFit]) -> list[LloydFit]:
    """Return the fits by inertia, lowest first; of equal ones the earlier."""
    return sorted(fits, key=lambda fit: fit.inertia)
