"""Cluster prototypes or pixels under a named protocol, and judge the clusters without labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from densessl.errors import InputError
from densessl.evaluation.cluster_algorithms import find_centroids
from densessl.evaluation.projection import Projection, fit_projection, project
from densessl.evaluation.protocols import ClusterProtocol

Vectors = NDArray[np.floating]  # (num_vectors, dim)


@dataclass(frozen=True)
class Clustering:
    """The clusters found among a set of vectors, and all it takes to assign further ones.

    assignments: int64 (num_vectors,), cluster of each vector, 0 to num_clusters - 1.
    centroids: float32 (num_centroids, projected dim). A vector belongs to the cluster of its nearest centroid.
    inertia: sum of squared distances to the nearest centroid (to the mean of the vector's cluster where there are
        groups), in the projected space.
    projection: normalisation and PCA that come before the distances.
    notes: what was done differently from the protocol, and why, in words.
    groups: int64 (num_centroids,), the cluster of each centroid where clusters have several (spectral and
        agglomerative clustering); None where centroid c is cluster c.
    """

    assignments: NDArray[np.int64]
    centroids: NDArray[np.float32]
    inertia: float
    projection: Projection
    protocol: ClusterProtocol
    seed: int
    notes: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None

    @property
    def num_clusters(self) -> int:
        return len(self.centroids) if self.groups is None else int(self.groups.max()) + 1


def cluster_prototypes(
    prototypes: Vectors,
    num_clusters: int,
    protocol: ClusterProtocol,
    seed: int,
    names: Sequence[str] | None = None,
) -> Clustering:
    """Cluster prototypes (num_prototypes, dim) as `protocol` says; the same seed gives the same clusters.

    The work runs on one thread, because the order of additions decides rounding and rounding decides k-means:
    the result does not depend on the number of cores. `names` (one per prototype, such as the image's stem)
    are used in errors. Raises `InputError` for fewer prototypes than clusters and for values that are not
    finite.
    """
    return _cluster(prototypes, num_clusters, protocol, seed, "prototype", names)


def cluster_pixels(
    pixels: Vectors,
    num_clusters: int,
    protocol: ClusterProtocol,
    seed: int,
    names: Sequence[str] | None = None,
) -> Clustering:
    """Cluster sampled pixel features (num_pixels, dim) like prototypes; `assign` labels the other pixels."""
    return _cluster(pixels, num_clusters, protocol, seed, "pixel", names)


def assign(vectors: Vectors, clustering: Clustering) -> NDArray[np.int64]:
    """Return the nearest cluster of each vector (num_vectors, dim), int64 (num_vectors,)."""
    projected = project(vectors, clustering.projection)
    nearest = _distances_less_constant(projected, clustering.centroids).argmin(axis=1)
    return nearest if clustering.groups is None else clustering.groups[nearest]


def cluster_distances(projected: Vectors, clustering: Clustering) -> Vectors:
    """Return `min |c|^2 - 2 x.c` over the centroids c of each cluster, (num_vectors, num_clusters).

    That is the squared distance to the nearest centroid of the cluster less `|x|^2`, which is the same for all.
    """
    distances = _distances_less_constant(projected, clustering.centroids)
    if clustering.groups is None:
        return distances
    order = np.argsort(clustering.groups, kind="stable")
    first = np.searchsorted(clustering.groups[order], np.arange(clustering.num_clusters))
    return np.minimum.reduceat(distances[:, order], first, axis=1)


def centres(projected: Vectors, clustering: Clustering) -> NDArray[np.float32]:
    """Return one centre for each cluster: its centroid, or, where it has several, the mean of its vectors.

    `projected` are the vectors that were clustered, in the projected space.
    """
    if clustering.groups is None:
        return clustering.centroids
    return _means(projected, clustering.assignments, clustering.num_clusters)


def silhouette(prototypes: Vectors, clustering: Clustering, seed: int = 0, max_vectors: int = 5000) -> float | None:
    """Return the mean silhouette (Rousseeuw 1987) in [-1, 1] of the clustered vectors, in projected space.

    Higher is better; uses no labels. Above `max_vectors`, that many are drawn with `seed`. None where it is
    undefined: fewer than two clusters hold vectors, or every vector is alone in its cluster.
    """
    projected, assignments = project(prototypes, clustering.projection), clustering.assignments
    if len(assignments) > max_vectors:
        chosen = np.random.default_rng(seed).choice(len(assignments), max_vectors, replace=False)
        projected, assignments = projected[chosen], assignments[chosen]
    num_used = len(np.unique(assignments))
    if not 2 <= num_used < len(assignments):
        return None
    with threadpool_limits(limits=1):
        return float(silhouette_score(projected, assignments))


def stability(assignments: Sequence[NDArray[np.int64]]) -> float:
    """Return the mean pairwise adjusted Rand index (Hubert & Arabie 1985) of clusterings of the same vectors.

    1 where all seeds agree, about 0 where they agree no more than chance; uses no labels. Raises `InputError`
    for fewer than two clusterings.
    """
    if len(assignments) < 2:
        raise InputError(f"stability compares at least 2 clusterings, got {len(assignments)}; use more seeds")
    return float(np.mean([adjusted_rand_score(one, other) for one, other in combinations(assignments, 2)]))


def _cluster(
    vectors: Vectors,
    num_clusters: int,
    protocol: ClusterProtocol,
    seed: int,
    noun: str,
    names: Sequence[str] | None,
) -> Clustering:
    _check_vectors(vectors, num_clusters, noun, names)
    protocol, said = _on_the_sphere(protocol)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    with threadpool_limits(limits=1):
        projection, notes = fit_projection(vectors, protocol, seed)
        projected = project(vectors, projection)
        num_distinct = len(np.unique(projected, axis=0))
        if num_distinct < num_clusters:
            notes += (
                f"only {num_distinct} of {len(vectors)} {noun}s differ: some of {num_clusters} clusters are empty",
            )
        found = find_centroids(projected, num_clusters, protocol, seed)
        nearest = _distances_less_constant(projected, found.centroids).argmin(axis=1)
    assignments, middle = nearest, found.centroids
    if found.groups is not None:
        assignments = found.groups[nearest]
        middle = _means(projected, assignments, num_clusters)
    inertia = float(((projected - middle[assignments]).astype(np.float64) ** 2).sum())
    notes = (*said, *notes, *found.notes)
    return Clustering(assignments, found.centroids, inertia, projection, protocol, seed, notes, found.groups)


def _on_the_sphere(protocol: ClusterProtocol) -> tuple[ClusterProtocol, tuple[str, ...]]:
    """Return the protocol with vectors of unit length after the projection where its algorithm clusters by cosine."""
    if protocol.algorithm != "spherical" or protocol.is_projection_normalised:
        return protocol, ()
    note = "spherical k-means: vectors are brought to unit length after the projection"
    return replace(protocol, is_projection_normalised=True), (note,)


def _means(vectors: Vectors, assignments: NDArray[np.int64], num_clusters: int) -> NDArray[np.float32]:
    """Return the mean of each cluster, zeros where it is empty."""
    sums = np.zeros((num_clusters, vectors.shape[1]))
    np.add.at(sums, assignments, vectors)
    sizes = np.bincount(assignments, minlength=num_clusters)
    return (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)


def _check_vectors(vectors: Vectors, num_clusters: int, noun: str, names: Sequence[str] | None) -> None:
    if vectors.ndim != 2:
        raise InputError(f"{noun}s have shape (number, dim), got {vectors.shape}")
    if num_clusters < 1:
        raise InputError(f"num_clusters is {num_clusters}; it must be at least 1")
    if len(vectors) < num_clusters:
        raise InputError(
            f"{len(vectors)} {noun}s cannot form {num_clusters} clusters; ask for at most {len(vectors)} "
            "clusters or add images"
        )
    if names is not None and len(names) != len(vectors):
        raise InputError(f"got {len(names)} names for {len(vectors)} {noun}s; give one each")
    is_broken = ~np.isfinite(vectors).all(axis=1)
    if is_broken.any():
        row = int(is_broken.argmax())
        where = f"{noun} {row}" if names is None else f"{noun} {row} (image {names[row]})"
        raise InputError(
            f"{where} holds NaN or infinity, and so do {int(is_broken.sum())} of {len(vectors)} {noun}s in "
            "all; check the weights the features come from (did training diverge?)"
        )


def _distances_less_constant(vectors: Vectors, centroids: NDArray[np.float32]) -> Vectors:
    """Return `|c|^2 - 2 x.c` (num_vectors, num_clusters): squared distances less `|x|^2`."""
    return (centroids**2).sum(axis=1) - 2 * (vectors @ centroids.T)
