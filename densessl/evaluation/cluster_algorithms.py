"""The algorithms behind the names of `ClusterProtocol.algorithm`: vectors in, centroids out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

from densessl.evaluation.cluster_merging import merge_by_ward
from densessl.evaluation.fast_kmeans import fast_kmeans
from densessl.evaluation.protocols import ClusterProtocol
from densessl.evaluation.spectral_groups import spectral_groups
from densessl.evaluation.streaming_kmeans import streaming_kmeans

MOST_SPECTRAL = 2000
"""Vectors that a spectral clustering takes as they are."""
SPECTRAL_REPRESENTATIVES = 500
"""Over-clusters that larger sets are cut into first."""
MERGED_PER_CLUSTER = 10
"""Over-clusters for each cluster that merging ends with."""
MOST_MERGED = 500
_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Centroids:
    """What an algorithm found: a vector belongs to the cluster of its nearest centroid.

    centroids: float32 (num_centroids, dim). groups: int64 (num_centroids,), the cluster of each centroid; None where
    centroid c is cluster c. notes: what deserves to be said of it.
    """

    centroids: NDArray[np.float32]
    groups: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


def find_centroids(vectors: NDArray[np.float32], num_clusters: int, protocol: ClusterProtocol, seed: int) -> Centroids:
    """Cluster vectors (num_vectors, dim), finite and at least as many as clusters, with the protocol's algorithm."""
    match protocol.algorithm:
        case "kmeans":
            return Centroids(_scikit_learn(vectors, num_clusters, protocol, seed))
        case "minibatch":
            return Centroids(_scikit_learn_minibatch(vectors, num_clusters, protocol, seed))
        case "faiss":
            return Centroids(_faiss(vectors, num_clusters, protocol, seed))
        case "fast" | "spherical":
            return _fast(vectors, num_clusters, protocol, seed)
        case "streaming":
            return _streaming(vectors, num_clusters, protocol, seed)
        case "spectral":
            return _spectral(vectors, num_clusters, seed)
        case "agglomerative":
            return _agglomerative(vectors, num_clusters, protocol, seed)


def _scikit_learn(
    vectors: NDArray[np.float32], num_clusters: int, protocol: ClusterProtocol, seed: int
) -> NDArray[np.float32]:
    estimator = KMeans(
        num_clusters,
        n_init=protocol.num_initialisations,
        max_iter=protocol.num_iterations,
        algorithm="lloyd",
        random_state=seed,
    )
    return estimator.fit(vectors).cluster_centers_.astype(np.float32)


def _scikit_learn_minibatch(
    vectors: NDArray[np.float32], num_clusters: int, protocol: ClusterProtocol, seed: int
) -> NDArray[np.float32]:
    estimator = MiniBatchKMeans(
        num_clusters,
        batch_size=protocol.batch_size,
        n_init=protocol.num_initialisations,
        max_iter=protocol.num_iterations,
        random_state=seed,
    )
    return estimator.fit(vectors).cluster_centers_.astype(np.float32)


def _faiss(
    vectors: NDArray[np.float32], num_clusters: int, protocol: ClusterProtocol, seed: int
) -> NDArray[np.float32]:
    import faiss  # on demand: its OpenMP runtime is loaded only by those who choose it

    num_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        kmeans = faiss.Kmeans(
            vectors.shape[1],
            num_clusters,
            niter=protocol.num_iterations,
            nredo=protocol.num_initialisations,
            seed=seed,
            min_points_per_centroid=1,
            max_points_per_centroid=len(vectors),  # never a subsample
        )
        kmeans.train(vectors)
    finally:
        faiss.omp_set_num_threads(num_threads)
    return np.array(kmeans.centroids, dtype=np.float32)


def _fast(vectors: NDArray[np.float32], num_clusters: int, protocol: ClusterProtocol, seed: int) -> Centroids:
    found = fast_kmeans(
        vectors,
        num_clusters,
        seed,
        num_starts=protocol.num_initialisations,
        max_passes=protocol.num_iterations,
        is_spherical=protocol.algorithm == "spherical",
    )
    return Centroids(found.centroids, notes=_reseeded(found.num_reseeded))


def _streaming(vectors: NDArray[np.float32], num_clusters: int, protocol: ClusterProtocol, seed: int) -> Centroids:
    found = streaming_kmeans(
        lambda: (vectors[start : start + _CHUNK_ROWS] for start in range(0, len(vectors), _CHUNK_ROWS)),
        num_clusters,
        seed,
        batch_rows=protocol.batch_size,
        num_starts=protocol.num_initialisations,
    )
    return Centroids(found.centroids, notes=_reseeded(found.num_reseeded))


def _spectral(vectors: NDArray[np.float32], num_clusters: int, seed: int) -> Centroids:
    if len(vectors) <= MOST_SPECTRAL:
        representatives = np.unique(vectors, axis=0)
    else:
        representatives = fast_kmeans(vectors, SPECTRAL_REPRESENTATIVES, seed, num_starts=1, max_passes=20).centroids
    if len(representatives) <= num_clusters:
        return Centroids(_padded(representatives, num_clusters))
    groups = spectral_groups(representatives, num_clusters, seed)
    note = f"spectral clusters of {len(representatives)} representatives; a vector goes with the nearest of them"
    return Centroids(representatives, groups, (note,))


def _agglomerative(vectors: NDArray[np.float32], num_clusters: int, protocol: ClusterProtocol, seed: int) -> Centroids:
    wanted = max(num_clusters, min(MERGED_PER_CLUSTER * num_clusters, MOST_MERGED, len(vectors)))
    found = fast_kmeans(vectors, wanted, seed, num_starts=1, max_passes=protocol.num_iterations)
    sizes = np.bincount(found.assignments, minlength=wanted)
    centroids, sizes = found.centroids[sizes > 0], sizes[sizes > 0]
    if len(centroids) <= num_clusters:
        return Centroids(_padded(centroids, num_clusters))
    groups = merge_by_ward(centroids, sizes, num_clusters)
    note = f"{len(centroids)} over-clusters merged by Ward's criterion; a vector goes with the nearest of them"
    return Centroids(centroids, groups, (note,))


def _padded(centroids: NDArray[np.float32], num_clusters: int) -> NDArray[np.float32]:
    """Repeat the last centroid until there are `num_clusters`; the repeated ones stay empty."""
    return np.concatenate([centroids, np.repeat(centroids[-1:], num_clusters - len(centroids), axis=0)])


def _reseeded(number: int) -> tuple[str, ...]:
    return (f"empty clusters were moved to far vectors {number} times",) if number else ()
