"""From embedded images to label maps and scores: fit clusters, paint masks or pixels, count labels."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.cluster_scores import (
    RepeatedScores,
    confusion_of_clusters,
    mask_label_counts,
    score_repeatedly,
)
from densessl.evaluation.clustering import Clustering, centres, cluster_pixels, cluster_prototypes
from densessl.evaluation.confusion import confusion_matrix
from densessl.evaluation.extraction import EmbeddedImage, Extraction, decode_instances
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.projection import project
from densessl.evaluation.protocols import ClusterProtocol
from densessl.evaluation.segmentation import NO_CLUSTER, paint, segment_pixels
from densessl.structures import IGNORE, ImageRef, ImageSet, LabelMap

BACKGROUND = 0
"""The class, and the value in label maps, of what masks leave."""

PIXELS_PER_IMAGE = 200
"""Pixels drawn from each image to fit clusters where all pixels are clustered."""


def cluster_repeatedly(
    extraction: Extraction, num_clusters: int, protocol: ClusterProtocol, seeds: range
) -> tuple[Clustering, ...]:
    """Cluster the mask prototypes (or, where all pixels were embedded, a fixed draw of pixels) once for each seed.

    Args:
        extraction: the embedded images.
        num_clusters: clusters among what is clustered; the background is not among them where masks set it apart.
        protocol: how.
        seeds: one clustering each.

    Raises:
        InputError: fewer prototypes than clusters, or features that are not finite.
    """
    vectors = fitted_vectors(extraction)
    if extraction.is_pixelwise:
        return tuple(cluster_pixels(vectors, num_clusters, protocol, seed) for seed in seeds)
    names = prototype_stems(extraction)
    return tuple(cluster_prototypes(vectors, num_clusters, protocol, seed, names) for seed in seeds)


def fitted_vectors(extraction: Extraction) -> NDArray[np.float32]:
    """Return the vectors (num, dim) that clusters are fitted to: all prototypes, or the draw of pixels.

    Raises:
        InputError: no image was embedded.
    """
    if not extraction.images:
        reasons = "; ".join(f"{item.stem}: {item.reason}" for item in extraction.rejected[:3]) or "there were none"
        raise InputError(f"no image was embedded, so there is nothing to cluster ({reasons}); check images and masks")
    if not extraction.is_pixelwise:
        return np.concatenate([image.vectors[image.has_prototype] for image in extraction.images])
    drawn = []
    for index, image in enumerate(extraction.images):
        grid = image.grid()
        pixels = grid.reshape(len(grid), -1).T.astype(np.float32)  # (h * w, dim)
        drawn.append(pixels[np.random.default_rng(index).permutation(len(pixels))[:PIXELS_PER_IMAGE]])
    return np.concatenate(drawn)


def prototype_stems(extraction: Extraction) -> list[str]:
    """Return the stem of the image that each fitted prototype belongs to."""
    return [image.stem for image in extraction.images for _ in range(int(image.has_prototype.sum()))]


def cluster_ids(extraction: Extraction, found: Clustering) -> list[NDArray[np.int64]]:
    """Return, for each image, the cluster of masks 1, 2, ..., `NO_CLUSTER` where a mask has no prototype."""
    ids, start = [], 0
    for image in extraction.images:
        own = np.full(len(image.has_prototype), NO_CLUSTER, dtype=np.int64)
        stop = start + int(image.has_prototype.sum())
        own[image.has_prototype] = found.assignments[start:stop]
        ids.append(own)
        start = stop
    return ids


def label_map_of(image: EmbeddedImage, ids: NDArray[np.int64], found: Clustering) -> LabelMap:
    """Return an image's label map at native size: cluster c as c + 1 on masks, or as c where pixels are clustered."""
    if image.features is not None:
        return segment_pixels(torch.from_numpy(image.grid().astype(np.float32)), found, image.size)
    return paint(decode_instances(image), ids.tolist())


def score_clusterings(
    images: ImageSet, extraction: Extraction, found: tuple[Clustering, ...], classes: tuple[int, ...]
) -> RepeatedScores:
    """Score every clustering against the labels of the data set, which are read once.

    Clusters are matched one-to-one (Hungarian on IoU) where there are as many as classes, background included, and
    each to its class of highest IoU otherwise, as in the published evaluation. The background that masks set apart is
    a cluster like the others where it is one of the classes, and stands for none where it is not (`unnamed_values`).

    Raises:
        InputError: no labels, a label file missing, or a label at or above the number of classes.
    """
    if images.labels is None:
        raise InputError(f"data set {images.name} has no labels to score against")
    refs = {ref.stem: ref for ref in images.images}
    labels = (read_label(images, refs[image.stem]) for image in extraction.images)
    num_predictions = found[0].num_clusters + (not extraction.is_pixelwise)
    is_equal = found[0].num_clusters == num_clustered(classes, extraction.is_pixelwise)
    match: MatchRule = "hungarian" if is_equal else "highest_iou"
    if extraction.is_pixelwise:
        confusions = [np.zeros((IGNORE, num_predictions), dtype=np.int64) for _ in found]
        none = np.zeros(0, dtype=np.int64)
        for image, label_map in zip(extraction.images, labels, strict=True):
            for total, clustering in zip(confusions, found, strict=True):
                painted = label_map_of(image, none, clustering)
                total += confusion_matrix(label_map, painted, IGNORE, num_predictions)
    else:
        counts = [
            mask_label_counts(label_map, decode_instances(image), image.stem)
            for image, label_map in zip(extraction.images, labels, strict=True)
        ]
        confusions = [
            confusion_of_clusters(counts, cluster_ids(extraction, clustering), num_predictions) for clustering in found
        ]
    unnamed = unnamed_values(classes, extraction.is_pixelwise)
    return score_repeatedly(confusions, len(extraction.images), match, classes, unnamed)


def num_clustered(classes: Sequence[int], is_pixelwise: bool) -> int:
    """Return how many of the classes clusters are to stand for: all, or those that masks do not set apart."""
    return len(classes) - (BACKGROUND in classes and not is_pixelwise)


def unnamed_values(classes: Sequence[int], is_pixelwise: bool) -> tuple[int, ...]:
    """Return the values of label maps that stand for no class: the background of masks where it is not scored."""
    return () if is_pixelwise or BACKGROUND in classes else (BACKGROUND,)


def read_label(images: ImageSet, ref: ImageRef) -> LabelMap:
    """Read an image's labels and check that they are below the number of classes."""
    if images.labels is None:
        raise InputError(f"data set {images.name} has no labels")
    label_map = images.labels(ref)
    highest = int(label_map[label_map != IGNORE].max(initial=0))
    if images.class_names and highest >= len(images.class_names):
        raise InputError(
            f"image {ref.stem!r} has label {highest}, but the data set has {len(images.class_names)} classes "
            f"(0-{len(images.class_names) - 1}, ignored {IGNORE}); correct the label or list the class's name"
        )
    return label_map


def nearest_members(extraction: Extraction, found: Clustering, limit: int) -> list[list[tuple[str, float]]]:
    """Return, for each cluster, the images of its masks with their distance to the centroid, nearest first.

    At most `limit` each; distances are Euclidean, in the space that was clustered. Empty lists where pixels were
    clustered.
    """
    members: list[list[tuple[str, float]]] = [[] for _ in range(found.num_clusters)]
    if extraction.is_pixelwise:
        return members
    vectors = project(fitted_vectors(extraction), found.projection)
    distances = np.linalg.norm(vectors - centres(vectors, found)[found.assignments], axis=1)
    stems = prototype_stems(extraction)
    for index in np.argsort(distances, kind="stable"):
        own = members[found.assignments[index]]
        if len(own) < limit:
            own.append((stems[index], float(distances[index])))
    return members
