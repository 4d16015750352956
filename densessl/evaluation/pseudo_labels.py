"""Pseudo-labels: how sure the class of a mask or an image is, which of them are kept, and the maps to learn from."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.projection import project
from densessl.evaluation.segmentation import NO_CLUSTER
from densessl.structures import IGNORE, LabelMap, MaskArray


def assignment_margins(vectors: NDArray[np.floating], clustering: Clustering) -> NDArray[np.float64]:
    """Return how clearly each vector belongs to its nearest cluster: `1 - d_1 / d_2`, float64 (num_vectors,).

    `d_1 <= d_2` are the Euclidean distances to the two nearest centroids, in the space that was clustered. This is the
    simplified silhouette (Hruschka, Campello, de Castro, 2006) of the nearest cluster: 1 on a centroid, 0 half-way
    between two. Where there is a single cluster there is no margin, and it is `-d_1`.
    """
    projected = project(vectors, clustering.projection).astype(np.float64)
    centroids = clustering.centroids.astype(np.float64)
    distances = np.stack([np.linalg.norm(projected - centroid, axis=1) for centroid in centroids], axis=1)
    if clustering.groups is not None:  # of several centroids of a cluster the nearest counts
        of_cluster = [distances[:, clustering.groups == number] for number in range(clustering.num_clusters)]
        distances = np.stack([own.min(axis=1) for own in of_cluster], axis=1)
    if clustering.num_clusters == 1:
        return np.asarray(-distances[:, 0])
    nearest = np.sort(distances, axis=1)[:, :2]
    ratio = np.divide(nearest[:, 0], nearest[:, 1], out=np.ones(len(nearest)), where=nearest[:, 1] > 0)
    return np.asarray(1 - ratio)


def keep_most_confident(
    confidences: NDArray[np.floating], groups: NDArray[np.integer], share: float
) -> NDArray[np.bool_]:
    """Say what is kept: the most confident `share` of every group, at least one of each, so that no group dies.

    Args:
        confidences: float (num,), higher is surer; among equals the earlier is kept.
        groups: int (num,), cluster or class; negative for what belongs to none and is never kept.
        share: in (0, 1].

    Returns:
        bool (num,).
    """
    is_kept = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero(groups == group)
        surest_first = members[np.argsort(-np.asarray(confidences)[members], kind="stable")]
        is_kept[surest_first[: max(1, round(share * len(members)))]] = True
    return is_kept


def unsure_pixels(
    instances: NDArray[np.integer], soft: NDArray[np.floating] | None, unsure: float, band_px: int
) -> MaskArray:
    """Say where masks are not sure of themselves, bool (height, width).

    Where there is a soft map with values between 0 and 1: the pixels within `unsure` of 0.5. Where there is none: those
    at most `band_px` pixels (along rows, columns or diagonals) from a pixel of another mask, or of the background.

    Args:
        instances: (height, width), 0 background, m for mask m, at most 255.
        soft: (height, width), in [0, 1], or None.
        unsure: half the width of the interval around 0.5, in [0, 0.5].
        band_px: pixels on each side of an outline.
    """
    if soft is not None and bool(((soft > 0) & (soft < 1)).any()):
        return np.asarray(np.abs(soft - 0.5) < unsure)
    if band_px == 0:
        return np.zeros(instances.shape, dtype=bool)
    numbers = instances.astype(np.uint8)
    square = np.ones((2 * band_px + 1, 2 * band_px + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(numbers, square) != cv2.erode(numbers, square))


def paint_pseudo_labels(
    instances: NDArray[np.integer],
    cluster_ids: Sequence[int],
    is_kept: Sequence[bool],
    unsure: MaskArray,
) -> LabelMap:
    """Return the map to learn from: cluster c as c + 1 inside masks that are kept, background as 0, the rest `IGNORE`.

    Args:
        instances: (height, width), 0 background, m for mask m.
        cluster_ids: of masks 1, 2, ...; `NO_CLUSTER` for none.
        is_kept: of masks 1, 2, ...
        unsure: bool (height, width), see `unsure_pixels`.
    """
    values = [
        cluster + 1 if kept and cluster != NO_CLUSTER else IGNORE
        for cluster, kept in zip(cluster_ids, is_kept, strict=True)
    ]
    painted: LabelMap = np.array([0, *values], dtype=np.int64)[instances]
    painted[unsure] = IGNORE
    return painted


def image_class(labels: LabelMap, certainty: NDArray[np.floating]) -> tuple[int, float]:
    """Return the foreground class that most pixels of a prediction have, and the mean certainty of its foreground.

    Args:
        labels: (height, width), predicted classes, 0 background.
        certainty: (height, width), the probability of each pixel's class.

    Returns:
        The class, -1 where no pixel is foreground (the lowest of equals), and a mean in [0, 1].
    """
    is_foreground = labels > 0
    if not is_foreground.any():
        return -1, 0.0
    counts = np.bincount(labels[is_foreground])
    return int(counts.argmax()), float(np.asarray(certainty, dtype=np.float64)[is_foreground].mean())


def check_enough(num_kept: int, num_clusters: int, where: str) -> None:
    """Raise `InputError` where fewer images are confident than there are clusters (background not counted)."""
    if num_kept < num_clusters:
        raise InputError(
            f"{where}: {num_kept} confident images cannot teach {num_clusters} clusters; ask for at most "
            f"{num_kept + 1} clusters (--num_clusters, which counts the background), raise "
            "--self_labelling.kept_share, or add images"
        )
