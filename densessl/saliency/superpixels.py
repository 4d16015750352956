"""Superpixels: small regions of one colour, their statistics and their neighbourhood graph."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.saliency.colour import FloatMap, LabImage, RegionValues


@dataclass(frozen=True)
class Superpixels:
    """The regions of one image, numbered 0..n-1, and what the cues need to know of them.

    labels: int64 (height, width), the region of each pixel.
    area: (n,) pixels.
    lab: (n, 3) mean colour.
    position: (n, 2) mean pixel centre `(y, x)`, as a fraction of the height and of the width.
    aspect: (2,) height and width as a fraction of the longer side, which turns `position` into distances.
    border: (n,) pixels of the region that lie on the image's edge.
    edges: int64 (2, m), pairs of 4-connected neighbours, the smaller number first, sorted.
    """

    labels: NDArray[np.int64]
    area: RegionValues
    lab: NDArray[np.float64]
    position: NDArray[np.float64]
    aspect: NDArray[np.float64]
    border: RegionValues
    edges: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.area)

    def mean(self, values: FloatMap) -> RegionValues:
        """Return the mean of a map (height, width) over each region, (n,)."""
        return _mean_over(self.labels, values, self.area)

    def paint(self, values: RegionValues) -> FloatMap:
        """Return the map (height, width) that shows each region's value."""
        return values[self.labels].astype(np.float32)


def segment(lab: LabImage, num_regions: int = 250, compactness: float = 10.0, num_rounds: int = 5) -> Superpixels:
    """Cut an image into about `num_regions` superpixels by SLIC and measure them.

    See `slic`; source of the statistics: the region graph of Zhu et al., CVPR 2014, section 3.
    """
    labels = slic(lab, num_regions, compactness, num_rounds)
    height, width = labels.shape
    num_found = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=num_found).astype(np.float64)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    position = [(rows + 0.5) / height, (columns + 0.5) / width]
    return Superpixels(
        labels=labels,
        area=area,
        lab=np.stack([_mean_over(labels, lab[..., channel], area) for channel in range(3)], axis=1),
        position=np.stack([_mean_over(labels, values, area) for values in position], axis=1),
        aspect=np.array([height, width]) / max(height, width),
        border=_count_border(labels, num_found),
        edges=find_neighbours(labels),
    )


def slic(lab: LabImage, num_regions: int, compactness: float, num_rounds: int) -> NDArray[np.int64]:
    """Return the superpixel of each pixel, int64 (height, width), numbered without gaps.

    Local k-means over `(L, a, b, compactness / step * y, compactness / step * x)`, step = sqrt(pixels / num_regions)
    (Achanta et al., "SLIC superpixels", TPAMI 2012, equation 3). Deviations: a pixel chooses among the nine grid
    cells around its own instead of a window around each centre, so each round is nine array operations; centres
    start in the middle of their cell; stray pixels are not merged into their surroundings.
    """
    height, width = lab.shape[:2]
    step = max(1.0, (height * width / num_regions) ** 0.5)
    num_rows, num_columns = max(1, round(height / step)), max(1, round(width / step))
    cell_rows = np.arange(height) * num_rows // height
    cell_columns = np.arange(width) * num_columns // width
    rows, columns = np.mgrid[:height, :width].astype(np.float32) * (compactness / step)
    features = np.dstack([lab, rows, columns]).reshape(-1, 5).astype(np.float32)
    candidates = [
        (
            np.clip(cell_rows + down, 0, num_rows - 1)[:, None] * num_columns
            + np.clip(cell_columns + right, 0, num_columns - 1)[None]
        ).ravel()
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    owners = candidates[4]
    centres = _cluster_means(features, owners, np.zeros((num_rows * num_columns, 5), np.float32))
    for _ in range(num_rounds):
        owners = _nearest_centre(features, centres, candidates)
        centres = _cluster_means(features, owners, centres)
    _, compact = np.unique(owners, return_inverse=True)
    return compact.reshape(height, width).astype(np.int64)


def find_neighbours(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs of regions that touch, int64 (2, m): smaller number first, sorted, each pair once."""
    num_regions = int(labels.max()) + 1
    first = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
    second = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()])
    different = first != second
    first, second = first[different], second[different]
    codes = np.unique(np.minimum(first, second) * num_regions + np.maximum(first, second))
    return np.stack([codes // num_regions, codes % num_regions])


def _nearest_centre(
    features: NDArray[np.float32], centres: NDArray[np.float32], candidates: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    nearest = candidates[0].copy()
    smallest = np.full(len(features), np.inf, dtype=np.float32)
    for candidate in candidates:
        difference = features - centres[candidate]
        distance = np.einsum("nk,nk->n", difference, difference)
        closer = distance < smallest
        np.copyto(smallest, distance, where=closer)
        np.copyto(nearest, candidate, where=closer)
    return nearest


def _cluster_means(
    features: NDArray[np.float32], owners: NDArray[np.int64], previous: NDArray[np.float32]
) -> NDArray[np.float32]:
    count = np.bincount(owners, minlength=len(previous))
    sums = np.stack([np.bincount(owners, column, len(previous)) for column in features.T], axis=1)
    means = sums / np.maximum(count, 1)[:, None]
    return np.where(count[:, None] > 0, means, previous).astype(np.float32)


def _mean_over(labels: NDArray[np.int64], values: FloatMap, area: RegionValues) -> RegionValues:
    return np.bincount(labels.ravel(), values.ravel(), len(area)) / area


def _count_border(labels: NDArray[np.int64], num_regions: int) -> RegionValues:
    on_border = np.zeros(labels.shape, dtype=bool)
    on_border[[0, -1]] = True
    on_border[:, [0, -1]] = True
    return np.bincount(labels[on_border], minlength=num_regions).astype(np.float64)
