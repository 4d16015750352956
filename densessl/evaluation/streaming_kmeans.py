"""Mini-batch k-means over a stream of chunks: the data set is never held, only a sample and the centroids."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.fast_kmeans import fast_kmeans

Chunks = Callable[[], Iterable[NDArray[np.floating]]]
"""Starts the stream anew: chunks (num_vectors, dim) of any lengths, the same vectors in the same order each time."""

SAMPLE_ROWS = 50_000
"""The most vectors that are held for the start; 256 for each cluster where that is less, but at least 8,192."""
LEAST_SAMPLE_ROWS = 8192


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
    sample, num_vectors = draw_sample(chunks, _sample_rows(num_clusters), seed, is_spherical)
    if num_vectors < num_clusters:
        raise InputError(
            f"a stream of {num_vectors} vectors cannot form {num_clusters} clusters; ask for at most {num_vectors} "
            "clusters or add images"
        )
    start = fast_kmeans(sample, num_clusters, seed, num_starts=num_starts, is_spherical=is_spherical)
    centroids = start.centroids.astype(np.float64)
    counts = np.bincount(start.assignments, minlength=num_clusters).astype(np.float64)
    for _ in range(num_passes if len(sample) < num_vectors else 0):
        for batch in _batches(chunks, batch_rows, is_spherical):
            _move(centroids, counts, batch, is_spherical)
    found = centroids.astype(np.float32)
    sizes, inertia = _count(chunks, found, is_spherical, num_vectors)
    num_reseeded = 0
    if (sizes == 0).any():
        num_reseeded = _reseed(found, sizes, sample)
        sizes, inertia = _count(chunks, found, is_spherical, num_vectors)
    return StreamFit(found, sizes, inertia, num_reseeded)


def _sample_rows(num_clusters: int) -> int:
    return max(num_clusters, min(SAMPLE_ROWS, max(LEAST_SAMPLE_ROWS, 256 * num_clusters)))


def draw_sample(
    chunks: Chunks, num_rows: int, seed: int, is_spherical: bool = False
) -> tuple[NDArray[np.float32], int]:
    """Draw `num_rows` vectors of the stream (all, where it has fewer), in its order, and count how many it has.

    Each vector gets a random key, and those of the smallest are kept, so that the cutting into chunks changes nothing.
    Raises `InputError` for NaN, infinity and chunks of other dimensions.
    """
    rng = np.random.default_rng(seed)
    kept: list[NDArray[np.float32]] = []
    keys: list[NDArray[np.float64]] = []
    num_kept, num_vectors, threshold = 0, 0, np.inf
    for chunk in _checked(chunks, is_spherical):
        own = rng.random(len(chunk))
        num_vectors += len(chunk)
        is_low = own < threshold
        kept.append(chunk[is_low])
        keys.append(own[is_low])
        num_kept += int(is_low.sum())
        if num_kept > 2 * num_rows:  # now and then, so that what is kept is not copied for each chunk
            sample, sample_keys = _of_smallest(kept, keys, num_rows)
            kept, keys, num_kept, threshold = [sample], [sample_keys], num_rows, float(sample_keys.max())
    if not kept:
        return np.zeros((0, 0), dtype=np.float32), 0
    return _of_smallest(kept, keys, num_rows)[0], num_vectors


def _of_smallest(
    kept: list[NDArray[np.float32]], keys: list[NDArray[np.float64]], num_rows: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the vectors of the `num_rows` smallest keys, in their order, and these keys."""
    vectors, joined = np.concatenate(kept), np.concatenate(keys)
    if len(joined) <= num_rows:
        return vectors, joined
    smallest = np.sort(np.argpartition(joined, num_rows)[:num_rows])
    return vectors[smallest], joined[smallest]


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


def _move(
    centroids: NDArray[np.float64], counts: NDArray[np.float64], batch: NDArray[np.float32], is_spherical: bool
) -> None:
    """Move the centroids, in place, to the running means of the vectors that they have had."""
    nearest, _ = _nearest(batch, centroids.astype(np.float32))
    order = np.argsort(nearest, kind="stable")
    present, first, number = np.unique(nearest[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(batch[order].astype(np.float64), first, axis=0)
    counts[present] += number
    centroids[present] += (sums - number[:, None] * centroids[present]) / counts[present, None]
    if is_spherical:
        length = np.linalg.norm(centroids, axis=1, keepdims=True)
        centroids /= np.where(length > 0, length, 1)


def _count(
    chunks: Chunks, centroids: NDArray[np.float32], is_spherical: bool, num_vectors: int
) -> tuple[NDArray[np.int64], float]:
    sizes, inertia = np.zeros(len(centroids), dtype=np.int64), 0.0
    for batch in _batches(chunks, LEAST_SAMPLE_ROWS, is_spherical):
        nearest, squared = _nearest(batch, centroids)
        sizes += np.bincount(nearest, minlength=len(centroids))
        inertia += float(squared.sum(dtype=np.float64))
    if sizes.sum() != num_vectors:
        raise InputError(
            f"the stream had {num_vectors} vectors at first and {int(sizes.sum())} when it was started again; give a "
            "function that starts it anew each time, not an iterator"
        )
    return sizes, inertia


def _reseed(centroids: NDArray[np.float32], sizes: NDArray[np.int64], sample: NDArray[np.float32]) -> int:
    emptied = np.flatnonzero(sizes == 0)
    _, squared = _nearest(sample, centroids[sizes > 0])
    farthest = np.argsort(-squared, kind="stable")[: len(emptied)]
    farthest = farthest[squared[farthest] > 0]
    centroids[emptied[: len(farthest)]] = sample[farthest]
    return len(farthest)


def _nearest(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest centroid of each vector and the squared distance to it."""
    nearest = ((centroids**2).sum(axis=1) - 2 * (vectors @ centroids.T)).argmin(axis=1)
    return nearest, ((vectors - centroids[nearest]) ** 2).sum(axis=1)
