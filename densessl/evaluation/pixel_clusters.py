"""Runs the protocols that cluster every pixel: fit on a stream of dense features, paint, count."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch.nn import functional

from densessl.errors import InputError
from densessl.evaluation.cluster_algorithms import find_centroids
from densessl.evaluation.clustering import Clustering, assign
from densessl.evaluation.confusion import Confusion, confusion_matrix
from densessl.evaluation.pixel_protocols import PixelProtocol
from densessl.evaluation.projection import Projection, project
from densessl.evaluation.streaming_kmeans import Chunks, draw_samples, streaming_kmeans_of_seeds
from densessl.evaluation.streaming_pca import standardised_pca
from densessl.structures import LabelMap

_NONE = np.zeros(0, dtype=np.int64)

DenseImages = Callable[[], Iterable[NDArray[np.floating]]]
"""Starts the stream of images anew: features (dim, height, width) of one image each, any grid."""


def fit_pixels(
    images: DenseImages, num_clusters: int, protocol: PixelProtocol, seeds: Sequence[int]
) -> tuple[Clustering, ...]:
    """Cluster the pixels of all images as the protocol says, once for each seed; labels are not used.

    The images are streamed several times and never held: memory is that of a sample for each seed
    (`protocol.vectors_per_cluster`, or that of `streaming_kmeans`), whatever their number. The clusterings have no
    assignments; their inertia is that of the whole stream for mini-batch k-means, of the sample otherwise.

    Raises `InputError` for fewer pixels than clusters, NaN, and images of other dimensions.
    """
    projection, notes = _fit_projection(images, protocol)
    chunks = _projected(images, projection)
    with threadpool_limits(limits=1):
        if protocol.clusters.algorithm == "streaming":
            return _fit_to_stream(chunks, num_clusters, protocol, seeds, projection, notes)
        return _fit_to_samples(chunks, num_clusters, protocol, seeds, projection, notes)


def predict_pixels(features: NDArray[np.floating], clustering: Clustering, protocol: PixelProtocol) -> LabelMap:
    """Return the cluster of every pixel, int64 of `protocol.label_size_px`, from features (dim, height, width).

    Of similarities, the products of features and centroids are upsampled, which gives the same clusters as upsampling
    the features and taking their cosines: the length of a pixel's feature changes none of its comparisons.
    """
    dim, height, width = features.shape
    vectors = np.ascontiguousarray(features.reshape(dim, -1).T, dtype=np.float32)  # (height*width, dim)
    if protocol.upsampling == "similarities":
        products = torch.from_numpy(vectors @ clustering.centroids.T).T.reshape(1, -1, height, width)
        sized = functional.interpolate(products, size=protocol.label_size_px, mode="bilinear", align_corners=False)
        return sized[0].argmax(dim=0).numpy()
    return _nearest(assign(vectors, clustering).reshape(height, width), protocol.label_size_px)


def scored_labels(label_map: LabelMap, protocol: PixelProtocol) -> LabelMap:
    """Return labels, framed as the images are, at the size at which the protocol scores, by nearest neighbour."""
    return label_map if label_map.shape == protocol.label_size_px else _nearest(label_map, protocol.label_size_px)


def confusions_of_pixels(
    images: Iterable[tuple[NDArray[np.floating], LabelMap]],
    clusterings: Sequence[Clustering],
    protocol: PixelProtocol,
    num_labels: int,
) -> list[Confusion]:
    """Sum the confusion matrix (num_labels, num_clusters) of each clustering over images, one in memory at a time.

    images: features (dim, height, width) and label map, framed as the protocol says; the map may have any size.
    """
    totals = [np.zeros((num_labels, clustering.num_clusters), dtype=np.int64) for clustering in clusterings]
    for features, label_map in images:
        labels = scored_labels(label_map, protocol)
        for total, clustering in zip(totals, clusterings, strict=True):
            painted = predict_pixels(features, clustering, protocol)
            total += confusion_matrix(labels, painted, num_labels, clustering.num_clusters)
    return totals


def _fit_projection(images: DenseImages, protocol: PixelProtocol) -> tuple[Projection, tuple[str, ...]]:
    if protocol.clusters.pca_dim is None:
        return Projection(protocol.clusters.is_input_normalised, protocol.clusters.is_projection_normalised), ()
    return standardised_pca(_vectors(images), protocol.clusters.pca_dim, protocol.is_standardised)


def _fit_to_stream(
    chunks: Chunks,
    num_clusters: int,
    protocol: PixelProtocol,
    seeds: Sequence[int],
    projection: Projection,
    notes: tuple[str, ...],
) -> tuple[Clustering, ...]:
    how, fitted = protocol.clusters, []
    fits = streaming_kmeans_of_seeds(
        chunks,
        num_clusters,
        seeds,
        batch_rows=how.batch_size,
        num_passes=how.num_iterations,
        num_starts=how.num_initialisations,
        is_spherical=how.is_input_normalised,
    )
    for seed, fit in zip(seeds, fits, strict=True):
        num_empty = int((fit.sizes == 0).sum())
        empty = (f"{num_empty} of {num_clusters} clusters are empty: too few pixels differ",) if num_empty else ()
        fitted.append(Clustering(_NONE, fit.centroids, fit.inertia, projection, how, seed, (*notes, *empty)))
    return tuple(fitted)


def _fit_to_samples(
    chunks: Chunks,
    num_clusters: int,
    protocol: PixelProtocol,
    seeds: Sequence[int],
    projection: Projection,
    notes: tuple[str, ...],
) -> tuple[Clustering, ...]:
    how, fitted = protocol.clusters, []
    most = None if protocol.vectors_per_cluster is None else protocol.vectors_per_cluster * num_clusters
    samples, num_vectors = draw_samples(chunks, most or np.iinfo(np.int64).max, seeds)
    if num_vectors < num_clusters:
        raise InputError(
            f"{num_vectors} pixels cannot form {num_clusters} clusters; ask for at most {num_vectors} clusters or add "
            "images"
        )
    for seed, sample in zip(seeds, samples, strict=True):
        found = find_centroids(sample, num_clusters, how, seed)
        one = Clustering(_NONE, found.centroids, 0.0, projection, how, seed, (*notes, *found.notes), found.groups)
        fitted.append(one if found.groups is not None else _with_inertia(one, sample))
    return tuple(fitted)


def _with_inertia(found: Clustering, sample: NDArray[np.float32]) -> Clustering:
    products = (found.centroids**2).sum(axis=1) - 2 * (sample @ found.centroids.T)
    squared = ((sample - found.centroids[products.argmin(axis=1)]) ** 2).sum(axis=1)
    return replace(found, inertia=float(squared.sum(dtype=np.float64)))


def _vectors(images: DenseImages) -> Chunks:
    """Return the stream of the images' pixels, (height*width, dim) an image."""

    def chunks() -> Iterator[NDArray[np.float32]]:
        for number, features in enumerate(images()):
            if features.ndim != 3:
                raise InputError(f"features of image {number} have shape {features.shape}, not (dim, height, width)")
            pixels = np.ascontiguousarray(features.reshape(len(features), -1).T, dtype=np.float32)
            is_broken = ~np.isfinite(pixels).all(axis=1)
            if is_broken.any():
                raise InputError(
                    f"{int(is_broken.sum())} of {len(pixels)} features of image {number} are NaN or infinite; check "
                    "the weights they come from (did training diverge?)"
                )
            yield pixels

    return chunks


def _projected(images: DenseImages, projection: Projection) -> Chunks:
    vectors = _vectors(images)
    return lambda: (project(chunk, projection) for chunk in vectors())


def _nearest(values: LabelMap, size: tuple[int, int]) -> LabelMap:
    """Resize as torch's `nearest` does: output pixel i takes input pixel floor(i * old / new)."""
    rows, columns = (np.arange(new) * old // new for old, new in zip(values.shape, size, strict=True))
    return values[np.ix_(rows, columns)]
