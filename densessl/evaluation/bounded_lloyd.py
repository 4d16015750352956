"""Lloyd's algorithm that skips what cannot have changed: bounds on distances, blocks of rows, any number of threads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

BLOCK_ROWS = 8192
"""Vectors that are worked on together; fixed, so that sums are added in one order whatever the number of threads."""

FAR_MEAN = 4
"""Vectors are shifted by their mean where its squared length is more than this many times their summed variance."""
GATHERED_SHARE = 0.5
"""Where fewer rows of a block are open, they are taken out of it; else all are looked at."""
TIGHTENED_FROM = 64
"""With more clusters, an upper bound is computed anew before all distances of its vector are."""

Mapper = Callable[[Callable[[slice], "_Change"], Iterable[slice]], Iterable["_Change"]]
"""Applies a function to blocks and yields the results in their order: `map`, or that of a pool of threads."""


@dataclass(frozen=True)
class LloydFit:
    """Where Lloyd's algorithm ended.

    centroids: float32 (num_clusters, dim). assignments: int32 (num_vectors,), the nearest centroid of each vector.
    inertia: sum of squared distances to it. num_passes: over the vectors, the last of which computed every distance.
    num_reseeded: how often an empty cluster was moved to the vector farthest from its centroid.
    """

    centroids: NDArray[np.float32]
    assignments: NDArray[np.int32]
    inertia: float
    num_passes: int
    is_converged: bool
    num_reseeded: int


@dataclass(frozen=True)
class _Change:
    """What a block adds to the sums (num_clusters, dim) and counts of the clusters; None where nothing moved.

    num_moved: vectors that changed their cluster.
    """

    sums: NDArray[np.float64] | None
    counts: NDArray[np.int64] | None
    num_moved: int = 0


def lloyd(
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    max_passes: int,
    tolerance: float,
    is_spherical: bool = False,
    over_blocks: Mapper = map,
) -> LloydFit:
    """Repeat assigning vectors to the nearest centroid and centroids to the mean of their vectors (Lloyd 1982).

    Distances are computed only where two bounds per vector leave the nearest centroid open (Hamerly, SDM 2010): an
    upper bound on the distance to its own, a lower bound on the distance to any other, both moved by how far the
    centroids moved. Up to rounding the result is that of computing them all. It ends when the summed squared shift
    of the centroids is at most `tolerance` times the mean variance of a dimension, as in scikit-learn's KMeans.

    Args:
        vectors: float32 (num_vectors, dim), finite. Held as they are, not copied.
        centroids: float32 (num_clusters, dim), where to start.
        max_passes: the most passes over the vectors before the last one.
        tolerance: see above.
        is_spherical: centroids are brought to unit length after each pass (vectors are expected to have it):
            spherical k-means (Dhillon and Modha 2001), the nearest centroid being the one of highest cosine.
        over_blocks: `map`, or the map of a pool of threads. The result is the same.
    """
    state = _State(vectors, len(centroids))
    threshold = tolerance * state.mean_variance
    centroids = centroids.astype(np.float32)
    drift = np.zeros(len(centroids), dtype=np.float32)
    num_reseeded, is_converged, done = 0, False, 0
    for done in range(1, max_passes + 1):
        num_moved = state.visit(centroids, drift, over_blocks, is_complete=done == 1)
        moved, emptied = state.means(centroids)
        if len(emptied):
            num_reseeded += state.reseed(moved, emptied, centroids)
        if is_spherical:
            moved = _unit(moved)
        shift = np.linalg.norm(moved.astype(np.float64) - centroids, axis=1)
        centroids, drift = moved, shift.astype(np.float32)
        if num_moved == 0 or float((shift**2).sum()) <= threshold:
            is_converged = True
            break
    state.visit(centroids, drift, over_blocks, is_complete=True)
    inertia = float((state.upper.astype(np.float64) ** 2).sum())
    return LloydFit(centroids, state.assignments, inertia, done + 1, is_converged, num_reseeded)


class _State:
    """Assignments, bounds, squared lengths, sums and counts between passes; 16 bytes for each vector."""

    def __init__(self, vectors: NDArray[np.float32], num_clusters: int) -> None:
        self.vectors = vectors
        self.num_clusters = num_clusters
        step = max(1, len(vectors) // 100_000)
        mean, variance = (getattr(vectors[::step], of)(axis=0, dtype=np.float64) for of in ("mean", "var"))
        self.mean_variance = float(variance.mean())
        # Distances do not change with a shift, but lose fewer digits near the mean. A shift is a copy of what is read.
        self.is_shifted = bool(mean @ mean > FAR_MEAN * variance.sum())
        self.mean = mean.astype(np.float32) if self.is_shifted else np.zeros(vectors.shape[1], dtype=np.float32)
        self.squares = np.zeros(len(vectors), dtype=np.float32)
        self.assignments = np.zeros(len(vectors), dtype=np.int32)
        self.upper = np.zeros(len(vectors), dtype=np.float32)
        self.lower = np.zeros(len(vectors), dtype=np.float32)
        self.sums = np.zeros((num_clusters, vectors.shape[1]))
        self.counts = np.zeros(num_clusters, dtype=np.int64)
        self.has_assignments = False

    def visit(
        self, centroids: NDArray[np.float32], drift: NDArray[np.float32], over_blocks: Mapper, is_complete: bool
    ) -> int:
        """Reassign every vector whose nearest centroid may have changed; returns how many moved."""
        search = _Search(centroids - self.mean, drift, is_complete)
        blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, len(self.vectors), BLOCK_ROWS)]
        num_moved = 0
        for change in over_blocks(lambda block: self._visit_block(block, search), blocks):
            if change.sums is not None and change.counts is not None:
                self.sums += change.sums
                self.counts += change.counts
                num_moved += change.num_moved
        self.has_assignments = True
        return num_moved

    def means(self, centroids: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the mean of each cluster (its centroid where it is empty), and the empty clusters."""
        means = self.sums / np.maximum(self.counts, 1)[:, None] + self.mean
        emptied = np.flatnonzero(self.counts == 0)
        means[emptied] = centroids[emptied]
        return means.astype(np.float32), emptied

    def reseed(self, moved: NDArray[np.float32], emptied: NDArray[np.int64], centroids: NDArray[np.float32]) -> int:
        """Move empty clusters, in place, to the vectors farthest from their centroids; returns how many."""
        distances = np.concatenate(
            [
                np.linalg.norm(
                    self.vectors[s : s + BLOCK_ROWS] - centroids[self.assignments[s : s + BLOCK_ROWS]], axis=1
                )
                for s in range(0, len(self.vectors), BLOCK_ROWS)
            ]
        )
        farthest = np.argsort(-distances, kind="stable")[: len(emptied)]
        farthest = farthest[distances[farthest] > 0]
        moved[emptied[: len(farthest)]] = self.vectors[farthest]
        return len(farthest)

    def _visit_block(self, block: slice, search: "_Search") -> _Change:
        vectors, assignments = self.vectors[block], self.assignments[block]
        upper, lower, squares = self.upper[block], self.lower[block], self.squares[block]
        rows: NDArray[np.int64] | slice = slice(None)
        if search.is_complete:
            vectors = self._shifted(vectors)
            if not self.has_assignments:
                squares[:] = np.einsum("ij,ij->i", vectors, vectors)
        else:
            upper += search.drift[assignments]
            lower -= search.other_drift[assignments]
            bound = np.maximum(lower, search.half_gap[assignments])
            is_open = upper > bound
            num_open = np.count_nonzero(is_open)
            if num_open == 0:
                return _Change(None, None)
            if num_open < GATHERED_SHARE * len(vectors):
                rows = np.flatnonzero(is_open)
                vectors = self._shifted(vectors[rows])
                if self.num_clusters > TIGHTENED_FROM:
                    difference = vectors - search.centroids[assignments[rows]]
                    upper[rows] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
                    is_open = upper[rows] > bound[rows]
                    rows, vectors = rows[is_open], vectors[is_open]
                    if not len(vectors):
                        return _Change(None, None)
            else:
                vectors = self._shifted(vectors)
        nearest, upper[rows], lower[rows] = search.nearest(vectors, squares[rows])
        before = assignments[rows].copy()
        assignments[rows] = nearest
        if not self.has_assignments:
            return self._change(vectors, nearest, None)
        has_moved = nearest != before
        if not has_moved.any():
            return _Change(None, None)
        return self._change(vectors[has_moved], nearest[has_moved], before[has_moved])

    def _shifted(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors - self.mean if self.is_shifted else vectors

    def _change(
        self, vectors: NDArray[np.float32], after: NDArray[np.int32], before: NDArray[np.int32] | None
    ) -> _Change:
        """Return sums and counts that the vectors bring to their new clusters and take from those before."""
        rows = np.arange(len(vectors) + 1, dtype=np.int32)
        counts = np.bincount(after, minlength=self.num_clusters)
        columns, values = after, np.ones(len(vectors), dtype=np.float32)
        if before is not None:
            counts = counts - np.bincount(before, minlength=self.num_clusters)
            columns = np.stack([after, before], axis=1).ravel()
            values = np.tile(np.array([1, -1], dtype=np.float32), len(vectors))
            rows = 2 * rows
        members = csr_array((values, columns, rows), shape=(len(vectors), self.num_clusters))
        return _Change((members.T @ vectors).astype(np.float64), counts, len(vectors))


class _Search:
    """The centroids of one pass, less the mean, and what bounds need to know of how they moved."""

    def __init__(self, centroids: NDArray[np.float32], drift: NDArray[np.float32], is_complete: bool) -> None:
        self.centroids, self.drift, self.is_complete = centroids, drift, is_complete
        self._squares = np.einsum("ij,ij->i", centroids, centroids)
        self._factors = np.ascontiguousarray(-2 * centroids.T)
        if is_complete:
            return
        exact = centroids.astype(np.float64)
        squares = (exact**2).sum(axis=1)
        gaps = np.sqrt(np.maximum(squares[:, None] + squares - 2 * exact @ exact.T, 0))
        np.fill_diagonal(gaps, np.inf)
        self.half_gap = (gaps.min(axis=1) / 2).astype(np.float32)
        order = np.argsort(drift)
        self.other_drift = np.full(len(drift), drift[order[-1]], dtype=np.float32)
        self.other_drift[order[-1]] = drift[order[-2]] if len(drift) > 1 else 0

    def nearest(
        self, vectors: NDArray[np.float32], squares: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return the nearest centroid, the distance to it, and the distance to the second nearest.

        squares: the squared lengths of the vectors.
        """
        distances = vectors @ self._factors
        distances += self._squares
        rows = np.arange(len(vectors))
        nearest = distances.argmin(axis=1)
        first = distances[rows, nearest] + squares
        distances[rows, nearest] = np.inf
        second = distances.min(axis=1) + squares
        return nearest.astype(np.int32), np.sqrt(np.maximum(first, 0)), np.sqrt(np.maximum(second, 0))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)
