"""Mini-batch k-means over a stream of chunks: the data set is never held, only a sample and the centroids."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from densessl.errors import InputError
from densessl.evaluation.bounded_lloyd import LloydFit
from densessl.evaluation.fast_kmeans import fast_kmeans

Chunks = Callable[[], Iterable[NDArray[np.floating]]]
"""Starts the stream anew: chunks (num_vectors, dim) of any lengths, the same vectors in the same order each time."""

SAMPLE_ROWS = 50_000
"""The most vectors that are held for the start; 256 for each cluster where that is less, but at least 8,192."""
LEAST_SAMPLE_ROWS = 8192
COUNTED_ROWS = 1024
"""Vectors that the last pass counts together."""


@dataclass(frozen=True)
class StreamFit:
    """Centroids float32 (num_clusters, dim), how many vectors each has (int64), and the inertia over the stream.

    num_reseeded: how many clusters had no vector after the mini-batches and were moved to a vector of the sample.
    """

    centroids: NDArray[np.float32]
    sizes: NDArray[np.int64]
    inertia: float
    num_reseeded: int


def streaming_kmeans(
    chunks: Chunks,
    num_clusters: int,
    seed: int,
    *,
    batch_rows: int = 1000,
    num_passes: int = 2,
    num_starts: int = 8,
    is_spherical: bool = False,
) -> StreamFit:
    """Cluster a stream of vectors in memory that does not grow with it; the seed decides, the cutting does not.

    A first pass draws a uniform sample, which `fast_kmeans` clusters; where it holds the whole stream, that is all. In
    `num_passes` more, each mini-batch of `batch_rows` vectors moves the centroids towards the means of its members, by
    the share that these have among all that the centroid has had (Sculley, WWW 2010, a batch at a time). A last pass
    counts. Clusters that have no vector are then moved to the vectors of the sample that are farthest from their
    centroids, and counted again: sizes and inertia are those of the returned centroids, so that a cluster that is
    still empty shows.

    With `is_spherical`, vectors and centroids are brought to unit length: k-means by cosine.

    Raises `InputError` for fewer vectors than clusters, NaN or infinity, chunks of other dimensions, and a stream that
    cannot be started again.
    """
    return streaming_kmeans_of_seeds(
        chunks,
        num_clusters,
        [seed],
        batch_rows=batch_rows,
        num_passes=num_passes,
        num_starts=num_starts,
        is_spherical=is_spherical,
    )[0]


def streaming_kmeans_of_seeds(
    chunks: Chunks,
    num_clusters: int,
    seeds: Sequence[int],
    *,
    batch_rows: int = 1000,
    num_passes: int = 2,
    num_starts: int = 8,
    is_spherical: bool = False,
) -> tuple[StreamFit, ...]:
    """Return what `streaming_kmeans` returns for each seed, from as many passes over the stream as one seed takes."""
    samples, num_vectors = draw_samples(chunks, _sample_rows(num_clusters), seeds, is_spherical)
    if num_vectors < num_clusters:
        raise InputError(
            f"a stream of {num_vectors} vectors cannot form {num_clusters} clusters; ask for at most {num_vectors} "
            "clusters or add images"
        )
    moving = []
    for seed, sample in zip(seeds, samples, strict=True):
        start = fast_kmeans(sample, num_clusters, seed, num_starts=num_starts, is_spherical=is_spherical)
        moving.append(_MovingClusters(start, is_spherical))
    for _ in range(num_passes if len(samples[0]) < num_vectors else 0):
        for batch in _batches(chunks, batch_rows, is_spherical):
            for clusters in moving:
                clusters.move(batch)
    found = [clusters.centroids.astype(np.float32) for clusters in moving]
    counted = _count(chunks, found, is_spherical, num_vectors)
    num_reseeded = [
        _reseed(centroids, sizes, sample) if (sizes == 0).any() else 0
        for centroids, (sizes, _), sample in zip(found, counted, samples, strict=True)
    ]
    if any(num_reseeded):
        counted = _count(chunks, found, is_spherical, num_vectors)
    return tuple(
        StreamFit(centroids, sizes, inertia, number)
        for centroids, (sizes, inertia), number in zip(found, counted, num_reseeded, strict=True)
    )


def draw_samples(
    chunks: Chunks, num_rows: int, seeds: Sequence[int], is_spherical: bool = False
) -> tuple[list[NDArray[np.float32]], int]:
    """Draw `num_rows` vectors of the stream (all, where it has fewer), in its order, for each seed; count the stream.

    Each vector gets a random key, and those of the smallest are kept, so that the cutting into chunks changes nothing.
    One pass, and the memory of a few samples for each seed. Raises `InputError` for NaN, infinity and chunks of other
    dimensions.
    """
    samples, num_vectors = [_Sample(num_rows, seed) for seed in seeds], 0
    for chunk in _checked(chunks, is_spherical):
        num_vectors += len(chunk)
        for sample in samples:
            sample.offer(chunk)
    return [sample.vectors() for sample in samples], num_vectors


def _sample_rows(num_clusters: int) -> int:
    return max(num_clusters, min(SAMPLE_ROWS, max(LEAST_SAMPLE_ROWS, 256 * num_clusters)))


class _Sample:
    """The vectors of the smallest keys so far."""

    def __init__(self, num_rows: int, seed: int) -> None:
        self._num_rows, self._rng = num_rows, np.random.default_rng(seed)
        self._kept: list[NDArray[np.float32]] = []
        self._keys: list[NDArray[np.float64]] = []
        self._num_kept, self._threshold = 0, np.inf

    def offer(self, chunk: NDArray[np.float32]) -> None:
        own = self._rng.random(len(chunk))
        is_low = own < self._threshold
        if self._kept and not is_low.any():
            return
        self._kept.append(chunk[is_low])
        self._keys.append(own[is_low])
        self._num_kept += int(is_low.sum())
        if self._num_kept > 2 * self._num_rows:  # now and then, so that what is kept is not copied for each chunk
            self._drop_largest()

    def vectors(self) -> NDArray[np.float32]:
        if not self._kept:
            return np.zeros((0, 0), dtype=np.float32)
        self._drop_largest()
        return self._kept[0]

    def _drop_largest(self) -> None:
        vectors, keys = np.concatenate(self._kept), np.concatenate(self._keys)
        if len(keys) > self._num_rows:
            smallest = np.sort(np.argpartition(keys, self._num_rows)[: self._num_rows])
            vectors, keys = vectors[smallest], keys[smallest]
            self._threshold = float(keys.max())
        self._kept, self._keys, self._num_kept = [vectors], [keys], len(keys)


class _MovingClusters:
    """Centroids, float64 (num_clusters, dim), that mini-batches move, from where k-means on a sample left them."""

    def __init__(self, start: LloydFit, is_spherical: bool) -> None:
        self.centroids = start.centroids.astype(np.float64)
        self._counts = np.bincount(start.assignments, minlength=len(start.centroids)).astype(np.float64)
        self._is_spherical = is_spherical

    def move(self, batch: NDArray[np.float32]) -> None:
        """Move the centroids to the running means of the vectors that they have had."""
        nearest = _nearest(batch, self.centroids.astype(np.float32))
        present, column, number = np.unique(nearest, return_inverse=True, return_counts=True)
        cells = (np.ones(len(batch), dtype=np.float32), column, np.arange(len(batch) + 1))
        sums = (csr_array(cells, shape=(len(batch), len(present))).T @ batch).astype(np.float64)
        self._counts[present] += number
        self.centroids[present] += (sums - number[:, None] * self.centroids[present]) / self._counts[present, None]
        if self._is_spherical:
            length = np.linalg.norm(self.centroids, axis=1, keepdims=True)
            self.centroids /= np.where(length > 0, length, 1)


def _checked(chunks: Chunks, is_spherical: bool) -> Iterator[NDArray[np.float32]]:
    """Yield the chunks as float32, at unit length where asked; raises for what cannot be clustered."""
    dim, num_before = None, 0
    for chunk in chunks():
        if chunk.ndim != 2 or (dim is not None and chunk.shape[1] != dim):
            wanted = "(number, dim)" if dim is None else f"(number, {dim})"
            raise InputError(f"a chunk after {num_before} vectors has shape {chunk.shape}; all must be {wanted}")
        dim = chunk.shape[1]
        vectors = np.ascontiguousarray(chunk, dtype=np.float32)
        is_broken = ~np.isfinite(vectors).all(axis=1)
        if is_broken.any():
            raise InputError(
                f"vector {num_before + int(is_broken.argmax())} of the stream holds NaN or infinity; check the weights "
                "the features come from (did training diverge?)"
            )
        num_before += len(vectors)
        if is_spherical:
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)
        yield vectors


def _batches(chunks: Chunks, num_rows: int, is_spherical: bool) -> Iterator[NDArray[np.float32]]:
    """Yield the stream in batches of `num_rows` (the last one shorter), however it is cut into chunks."""
    rest: NDArray[np.float32] | None = None
    for chunk in _checked(chunks, is_spherical):
        joined = chunk if rest is None else np.concatenate([rest, chunk])
        num_whole = len(joined) - len(joined) % num_rows
        for start in range(0, num_whole, num_rows):
            yield joined[start : start + num_rows]
        rest = joined[num_whole:]
    if rest is not None and len(rest):
        yield rest


def _count(
    chunks: Chunks, found: Sequence[NDArray[np.float32]], is_spherical: bool, num_vectors: int
) -> list[tuple[NDArray[np.int64], float]]:
    """Return the sizes of the clusters and their inertia over the stream, for each set of centroids."""
    sizes, inertia = [np.zeros(len(centroids), dtype=np.int64) for centroids in found], [0.0] * len(found)
    for batch in _batches(chunks, COUNTED_ROWS, is_spherical):
        for index, centroids in enumerate(found):
            nearest = _nearest(batch, centroids)
            sizes[index] += np.bincount(nearest, minlength=len(centroids))
            inertia[index] += float(_squared_distances(batch, centroids, nearest).sum(dtype=np.float64))
    if sizes and sizes[0].sum() != num_vectors:
        raise InputError(
            f"the stream had {num_vectors} vectors at first and {int(sizes[0].sum())} when it was started again; give "
            "a function that starts it anew each time, not an iterator"
        )
    return list(zip(sizes, inertia, strict=True))


def _reseed(centroids: NDArray[np.float32], sizes: NDArray[np.int64], sample: NDArray[np.float32]) -> int:
    emptied, others = np.flatnonzero(sizes == 0), centroids[sizes > 0]
    squared = _squared_distances(sample, others, _nearest(sample, others))
    farthest = np.argsort(-squared, kind="stable")[: len(emptied)]
    farthest = farthest[squared[farthest] > 0]
    centroids[emptied[: len(farthest)]] = sample[farthest]
    return len(farthest)


def _nearest(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    return ((centroids**2).sum(axis=1) - 2 * (vectors @ centroids.T)).argmin(axis=1)


def _squared_distances(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32], nearest: NDArray[np.int64]
) -> NDArray[np.float32]:
    difference = vectors - centroids[nearest]
    return np.einsum("ij,ij->i", difference, difference)
