"""Where k-means starts: greedy k-means++ on a set of vectors."""

import math

import numpy as np
from numpy.typing import NDArray


def kmeans_plus_plus(vectors: NDArray[np.float32], num_clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return `num_clusters` of the vectors (num_vectors, dim), far from each other: float32 (num_clusters, dim).

    Each is drawn with a probability proportional to the squared distance to the nearest chosen one (Arthur and
    Vassilvitskii, SODA 2007); of 2 + floor(ln num_clusters) draws the one that leaves the lowest sum of squared
    distances is kept (their section 5, the greedy variant). Where fewer vectors differ than are wanted, some are
    returned more than once.
    """
    num_draws = 2 + int(math.log(num_clusters))
    squares = np.einsum("ij,ij->i", vectors, vectors)
    chosen = [int(rng.integers(len(vectors)))]
    nearest = _squared_distances(vectors, squares, chosen)[:, 0]
    for _ in range(1, num_clusters):
        summed = np.cumsum(nearest, dtype=np.float64)
        if summed[-1] <= 0:
            chosen.append(int(rng.integers(len(vectors))))
            continue
        drawn = np.searchsorted(summed, rng.random(num_draws) * summed[-1], side="right")
        drawn = np.minimum(drawn, len(vectors) - 1)
        candidates = np.minimum(nearest[:, None], _squared_distances(vectors, squares, drawn))
        best = int(candidates.sum(axis=0, dtype=np.float64).argmin())
        chosen.append(int(drawn[best]))
        nearest = candidates[:, best]
    return vectors[chosen]


def _squared_distances(
    vectors: NDArray[np.float32], squares: NDArray[np.float32], rows: list[int] | NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the squared distances (num_vectors, num_rows) of all vectors to some of them."""
    distances = vectors @ (-2 * vectors[rows].T)
    distances += squares[:, None]
    distances += squares[rows]
    return np.maximum(distances, 0, out=distances)
