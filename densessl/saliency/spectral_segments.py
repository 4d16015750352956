"""Deep spectral methods: foreground and segments from a graph of features and colours.

Melas-Kyriazi, Rupprecht, Laina, Vedaldi, CVPR 2022 (arXiv:2205.07839).
"""

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from densessl.errors import InputError
from densessl.models.patch_features import PatchFeatures
from densessl.saliency.colour import FloatMap
from densessl.saliency.normalised_cut import Affinity, cut_eigenvectors, unit_length
from densessl.saliency.patch_maps import split_at
from densessl.structures import ImageArray

COLOUR_WEIGHT = 10.0
"""Weight lambda of colour affinities, that of the released code where it uses them; it finds boxes without them."""
NUM_NEIGHBOURS = 20
"""Cells that each one is joined to by colour and place; the released code counts the cell itself among them."""
NUM_EIGENVECTORS = 19
"""Eigenvectors that segments are made from: the first 20 less the constant one."""


def deep_spectral(features: PatchFeatures, image: ImageArray) -> FloatMap:
    """Return the Fiedler vector as a soft map on the feature grid, (height, width) in [0, 1].

    The second smallest generalised eigenvector of the graph of `combined_affinity`, cut at 0; foreground is the
    smaller side. The map is the vector scaled on each side of 0.
    """
    _, vectors = cut_eigenvectors(combined_affinity(features, image), 1)
    vector = vectors[:, 0]
    if (vector > 0).mean() > 0.5:
        vector = -vector
    return split_at(vector.reshape(features.height, features.width), 0)


def eigensegments(
    features: PatchFeatures,
    image: ImageArray,
    num_segments: int | None = None,
    num_eigenvectors: int = NUM_EIGENVECTORS,
) -> NDArray[np.int64]:
    """Return segments of an image on the feature grid, int64 (height, width): 0 is background, 1, 2, ... the others.

    k-means on the rows of the smallest eigenvectors. Background is the segment with the largest share of the grid's
    border; the others are numbered by size, the largest first. Some of them may be empty.

    Args:
        features: of the image, on the grid.
        image: uint8 RGB (any height, any width, 3).
        num_segments: with the background, at least 2; `None` takes it from the largest gap between consecutive
            eigenvalues.
        num_eigenvectors: at least 2, and at most the number of cells less 2.

    Raises:
        InputError: numbers out of these ranges.
    """
    num_cells = features.height * features.width
    if num_segments is not None and not 2 <= num_segments <= num_cells:
        raise InputError(
            f"num_segments {num_segments} is not between 2 and the {num_cells} patches of the image; 4 is usual, "
            "and a larger feature_size_px makes more patches"
        )
    if num_eigenvectors < 2:
        raise InputError(f"num_eigenvectors {num_eigenvectors} is below 2; {NUM_EIGENVECTORS} is usual")
    values, vectors = cut_eigenvectors(combined_affinity(features, image), num_eigenvectors)
    if num_segments is None:
        num_segments = int(np.argmax(np.diff(values))) + 2  # i eigenvectors before the gap tell i + 1 segments apart
    clusters = _k_means(vectors, num_segments).reshape(features.height, features.width)
    border = np.concatenate([clusters[0], clusters[-1], clusters[:, 0], clusters[:, -1]])
    background = int(np.argmax(np.bincount(border, minlength=num_segments)))
    sizes = np.bincount(clusters.ravel(), minlength=num_segments)
    sizes[background] = num_cells + 1
    rank = np.empty(num_segments, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(num_segments)
    return rank[clusters]


def combined_affinity(features: PatchFeatures, image: ImageArray) -> Affinity:
    """Return `W = max(f f^T, 0) + lambda W_knn`, (num_cells, num_cells): f the features scaled to length 1."""
    directions = unit_length(features.values)
    affinity = directions @ directions.T
    np.maximum(affinity, 0, out=affinity)
    colours = colour_affinity(image, features.height, features.width).tocoo()
    affinity[colours.row, colours.col] += COLOUR_WEIGHT * colours.data  # no two entries share a place
    return affinity


def colour_affinity(image: ImageArray, height: int, width: int) -> csr_matrix:
    """Return the affinities of KNN matting (Chen, Li, Tang, CVPR 2012) between the cells of a grid, symmetric.

    `W_knn(u, v) = 1 - |psi(u) - psi(v)|`, at least 0, where one is among the `NUM_NEIGHBOURS` nearest of the other,
    and 0 elsewhere; `psi = (cos H, sin H, S, V, x, y)` of the cell's mean colour and its centre, both sides of the
    image being 1 long.
    """
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    hue, saturation, value = np.moveaxis(cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.float64), 2, 0)
    row, column = np.mgrid[:height, :width]
    angle = np.deg2rad(hue)
    place = (column + 0.5) / width, (row + 0.5) / height
    points = np.stack([np.cos(angle), np.sin(angle), saturation, value, *place], axis=-1).reshape(-1, 6)
    num_cells = len(points)
    num_neighbours = min(NUM_NEIGHBOURS, num_cells - 1)
    distance, neighbour = cKDTree(points).query(points, k=num_neighbours + 1)
    source = np.repeat(np.arange(num_cells), num_neighbours + 1)
    weight = np.where(source == neighbour.ravel(), 0, np.maximum(1 - distance.ravel(), 0))
    one_way = csr_matrix((weight, (source, neighbour.ravel())), shape=(num_cells, num_cells))
    return one_way.maximum(one_way.T)


def _k_means(vectors: NDArray[np.float64], num_clusters: int) -> NDArray[np.int64]:
    points = np.ascontiguousarray(vectors / np.abs(vectors).max(), dtype=np.float32)
    k_means = faiss.Kmeans(
        points.shape[1], num_clusters, niter=50, nredo=5, seed=0, min_points_per_centroid=1, verbose=False
    )
    with threadpool_limits(1):  # faiss is not loaded yet where a worker limits its libraries
        k_means.train(points)
        _, nearest = k_means.index.search(points, 1)
    return np.asarray(nearest[:, 0], dtype=np.int64)
