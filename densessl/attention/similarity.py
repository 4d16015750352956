"""Similarity of patches to a chosen one, in its own image or another; energy and sharpness of a feature map."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError

FeatureMap = NDArray[np.float32]  # (height, width, dim), of the cells of a grid


class Cell(NamedTuple):
    """A cell of a grid."""

    row: int
    column: int


def cell_at(
    point: tuple[float, float], image_size: tuple[int, int], covered_size: tuple[float, float], grid: tuple[int, int]
) -> Cell:
    """Return the cell of a grid under a point of an image.

    Args:
        point: (x, y) in pixels of the image; a pixel's area is [x, x + 1).
        image_size: (height, width) of the image in pixels.
        covered_size: (height, width) that the grid covers, in the same pixels; it may stick out over the image.
        grid: (height, width) in cells.

    Raises:
        InputError: a point outside of the image.
    """
    x, y = point
    height, width = image_size
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f"point {x:g},{y:g} lies outside of the image, which is {width} pixels wide and {height} high")
    row = min(int(y / covered_size[0] * grid[0]), grid[0] - 1)
    column = min(int(x / covered_size[1] * grid[1]), grid[1] - 1)
    return Cell(row, column)


def similarity_to(features: FeatureMap, query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each cell's feature to a query feature (dim,), in [-1, 1], float32 (height, width).

    Features of length 0 have a cosine of 0.
    """
    return (_unit(features) @ _unit(query)).astype(np.float32)


def most_similar(similarity: NDArray[np.float32]) -> Cell:
    """Return the cell with the highest value, the first in reading order of equal ones."""
    row, column = np.unravel_index(int(similarity.argmax()), similarity.shape)
    return Cell(int(row), int(column))


def feature_energy(features: FeatureMap) -> NDArray[np.float32]:
    """Return the length of each cell's feature, float32 (height, width): where a network without attention responds."""
    return np.linalg.norm(features.astype(np.float64), axis=2).astype(np.float32)


def half_distance(features: FeatureMap, cell_px: float) -> float:
    """Return the distance at which features differ half as much as any two of the image: the smaller, the sharper.

    With d(f, g) = 1 - cos(f, g), D(k) the mean of d over all pairs of cells k apart in a row or a column, D(0) = 0, and
    D the mean of d over all pairs of cells of the image, it is the first distance at which D(k), linear between whole
    cells, reaches D / 2. It can be compared between resolutions of one image, as it is in pixels of the image.

    Args:
        features: (height, width, dim).
        cell_px: pixels of the image that a cell is wide.

    Returns:
        pixels; NaN where all features point the same way, or half the mean is never reached.
    """
    unit = _unit(features)
    flat = unit.reshape(-1, unit.shape[2])
    total = 1 - float((flat.sum(0) ** 2).sum()) / len(flat) ** 2
    if total <= 1e-9:
        return float("nan")
    before = 0.0
    for apart in range(1, max(unit.shape[:2])):
        products = [(unit[apart:] * unit[:-apart]).sum(2).ravel(), (unit[:, apart:] * unit[:, :-apart]).sum(2).ravel()]
        differs = 1 - float(np.concatenate(products).mean())
        if differs >= total / 2:
            return cell_px * (apart - 1 + (total / 2 - before) / (differs - before))
        before = differs
    return float("nan")


def _unit(features: NDArray[np.float32]) -> NDArray[np.float64]:
    length = np.linalg.norm(features.astype(np.float64), axis=-1, keepdims=True)
    return features / np.where(length > 0, length, 1)
