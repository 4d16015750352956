"""The training cells of a linear probe: class shares held sparsely, features read one image at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.labelled_features import (
    Classes,
    FeatureSource,
    LabelSource,
    check_finite,
    class_shares,
    read_labelled,
)


@dataclass(frozen=True)
class SparseShares:
    """The shares of one image's cells that are above 0: 12 bytes for each pair of a cell and a class in it.

    rows, columns: int32 (num,), class column and cell. values: float32 (num,). num_cells: cells of the image's grid.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    num_cells: int

    def dense(self, num_classes: int, dtype: type[np.floating]) -> NDArray[np.floating]:
        """Return (num_classes, num_cells)."""
        full = np.zeros((num_classes, self.num_cells), dtype=dtype)
        full[self.rows, self.columns] = self.values
        return full


@dataclass(frozen=True)
class ProbeCells:
    """All training cells of a probe.

    features: read anew in each pass, so that memory holds the features of one image.
    indices: the images, by their place in `features`; shares: theirs, in the same order, in the columns of `classes`.
    mean, deviation: float64 (dim,), of the features over the cells, weighted by labelled share; a feature that does not
        vary has deviation 1.
    """

    features: FeatureSource
    classes: Classes
    indices: tuple[int, ...]
    shares: tuple[SparseShares, ...]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def total_weight(self) -> float:
        """Labelled shares, summed over all cells: how many whole cells have labels."""
        return float(sum(shares.values.sum(dtype=np.float64) for shares in self.shares))

    def part(self, positions: Sequence[int]) -> "ProbeCells":
        """Return the cells of some of the images alone, standardised as all are."""
        indices = tuple(self.indices[position] for position in positions)
        return replace(self, indices=indices, shares=tuple(self.shares[position] for position in positions))

    def standardised(self, position: int, precision: Literal["float32", "float64"]) -> NDArray[np.floating]:
        """Return the features of the image at a position less their mean, over their deviation: (dim, num_cells)."""
        pixels = self.features.pixels(self.indices[position])
        cells = pixels.reshape(len(pixels), -1).astype(precision)  # a copy: a source may hold its features
        cells -= self.mean.astype(precision)[:, None]
        cells *= (1 / self.deviation).astype(precision)[:, None]
        return cells


def collect_cells(features: FeatureSource, labels: LabelSource, classes: Classes) -> ProbeCells:
    """Read labels and features once: class shares of every cell, and the features' mean and deviation.

    Classes without training pixels are left out of `classes` of the result; so are images without labelled pixels.

    Raises:
        InputError: features that are not finite, features of another dimension, a label outside the range (each names
            the image), no labelled pixel at all.
    """
    indices: list[int] = []
    collected: list[SparseShares] = []
    moments = _Moments()
    for index, image in enumerate(read_labelled(features, labels)):
        check_finite(image.features, image.stem)
        grid = (image.features.shape[1], image.features.shape[2])
        shares = class_shares(image.labels, grid, classes, image.stem)
        if not shares.any():
            continue
        columns, rows = np.nonzero(shares)
        collected.append(
            SparseShares(rows.astype(np.int32), columns.astype(np.int32), shares[columns, rows], len(shares))
        )
        indices.append(index)
        moments.add(image.features.reshape(len(image.features), -1), shares.sum(axis=1), image.stem)
    if not collected:
        raise InputError(
            f"no pixel of the {len(features)} training images is labelled with one of the classes "
            f"{list(classes.labels)}; check the labels and the list of classes"
        )
    present = np.unique(np.concatenate([np.unique(shares.rows) for shares in collected]))
    row_of = np.zeros(len(classes), dtype=np.int32)
    row_of[present] = np.arange(len(present), dtype=np.int32)
    renumbered = tuple(replace(shares, rows=row_of[shares.rows]) for shares in collected)
    return ProbeCells(features, classes.subset(present), tuple(indices), renumbered, *moments.result())


class _Moments:
    """Weighted mean and deviation of a stream of cells, merged image by image in float64 (Chan et al., 1979)."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._mean = np.zeros(0)
        self._squares = np.zeros(0)

    def add(self, cells: NDArray[np.float32], weights: NDArray[np.float32], stem: str) -> None:
        """Add cells (dim, num_cells) that count as much as their weights (num_cells,)."""
        if self._weight == 0:
            self._mean, self._squares = np.zeros(len(cells)), np.zeros(len(cells))
        if len(cells) != len(self._mean):
            raise InputError(
                f"features of image {stem!r} have {len(cells)} dimensions, those before {len(self._mean)}; use one "
                "encoder for all images"
            )
        weight = float(weights.sum(dtype=np.float64))
        mean = cells @ (weights.astype(np.float64) / weight)
        squares = ((cells - mean[:, None]) ** 2) @ weights.astype(np.float64)
        total = self._weight + weight
        step = mean - self._mean
        self._squares = self._squares + squares + step**2 * (self._weight * weight / total)
        self._mean = self._mean + step * (weight / total)
        self._weight = total

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and deviation (dim,) each; where there is nothing but rounding, a deviation of 1."""
        variance = self._squares / self._weight
        floor = np.finfo(np.float32).eps ** 2 * self._mean**2
        return self._mean, np.sqrt(np.where(variance > floor, variance, 1.0))
