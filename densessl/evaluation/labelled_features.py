"""Dense features with labels: what the labelled protocols read, and the share of every class in each grid cell."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.structures import IGNORE, LabelMap


class FeatureSource(Protocol):
    """Features of many images that are read one at a time, such as a feature store.

    `pixels(i)` is float32 (dim, h, w); all images have the same dim, grids may differ.
    """

    @property
    def stems(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def pixels(self, index: int) -> NDArray[np.float32]: ...


LabelSource = Callable[[int], LabelMap]
"""Returns the label map (height, width) of image i, at any size; it covers what the features cover."""


@dataclass(frozen=True)
class LabelledFeatures:
    """One image: features float (dim, h, w) and its label map (height, width), which cover the same area."""

    stem: str
    features: NDArray[np.float32]
    labels: LabelMap


@dataclass(frozen=True)
class Classes:
    """Which classes are learned and predicted.

    labels: class indices, in the order of the columns of histograms and logits. Pixels of other classes are ignored.
    num_labels: how many classes the data set has; a label map holds 0 to num_labels - 1 and the ignored value 255.
    """

    labels: tuple[int, ...]
    num_labels: int

    def __post_init__(self) -> None:
        if not self.labels:
            raise InputError("the list of classes is empty; name at least one class")
        if not 1 <= self.num_labels <= IGNORE:
            raise InputError(f"the number of classes is {self.num_labels}; a label map holds 1 to {IGNORE}")
        for label in self.labels:
            if not 0 <= label < self.num_labels:
                raise InputError(
                    f"class {label} is not one of the {self.num_labels} classes 0-{self.num_labels - 1}; correct the "
                    "list of classes"
                )
        if len(set(self.labels)) < len(self.labels):
            raise InputError(f"a class is listed twice in {list(self.labels)}; list each class once")

    def __len__(self) -> int:
        return len(self.labels)

    def columns(self, labels: LabelMap, stem: str) -> NDArray[np.int64]:
        """Return the column of each pixel's class, -1 where it is ignored, shaped as `labels`.

        Raises `InputError`, naming the image, for a label outside the range.
        """
        if labels.dtype.kind not in "iu":
            raise InputError(f"labels of image {stem!r} have dtype {labels.dtype}; class indices are integers")
        is_counted = labels != IGNORE
        low = int(labels.min(initial=0, where=is_counted))
        high = int(labels.max(initial=0, where=is_counted))
        if low < 0 or high >= self.num_labels:
            raise InputError(
                f"image {stem!r} has label {low if low < 0 else high}; labels are 0-{self.num_labels - 1}, or {IGNORE} "
                "for pixels that are ignored: correct the label map or the number of classes"
            )
        column_of = np.full(IGNORE + 1, -1, dtype=np.int64)
        column_of[list(self.labels)] = np.arange(len(self.labels))
        return column_of[labels]

    def subset(self, columns: NDArray[np.integer]) -> "Classes":
        """Return the classes of these columns alone."""
        return Classes(tuple(self.labels[column] for column in columns.tolist()), self.num_labels)


def read_labelled(
    features: FeatureSource, labels: LabelSource, indices: Iterable[int] | None = None
) -> Iterator[LabelledFeatures]:
    """Yield images with their labels one at a time, in order; `indices` chooses among them."""
    for index in range(len(features)) if indices is None else indices:
        yield LabelledFeatures(features.stems[index], features.pixels(index), labels(index))


def class_shares(labels: LabelMap, grid: tuple[int, int], classes: Classes, stem: str) -> NDArray[np.float32]:
    """Return how much of each grid cell every class covers, float32 (h * w, num_classes), rows in row-major order.

    A cell is the rectangle of the label map that lies under it, with the exact share of pixels on its edges, so that
    grid and label map may have any sizes. A row sums to the labelled share of the cell, in [0, 1]: ignored pixels and
    those of other classes are left out.

    Raises `InputError`, naming the image, for a label outside the range.
    """
    columns = classes.columns(labels, stem)
    rows_of, columns_of = (_cell_shares(n, m) for n, m in zip(columns.shape, grid, strict=True))
    shares = np.zeros((len(classes), *grid), dtype=np.float32)
    for column in np.unique(columns[columns >= 0]).tolist():
        shares[column] = rows_of @ (columns == column).astype(np.float64) @ columns_of.T
    return np.ascontiguousarray(shares.reshape(len(classes), -1).T)


def check_finite(features: NDArray[np.floating], stem: str) -> None:
    """Raise `InputError`, naming the image, where features (dim, h, w) hold NaN or infinity."""
    is_finite = np.isfinite(features)
    if not is_finite.all():
        num_broken = int((~is_finite).any(axis=0).sum())
        raise InputError(
            f"features of image {stem!r} hold NaN or infinity in {num_broken} of {features[0].size} cells; check the "
            "weights the features come from (did training diverge?), or compute them in fp32"
        )


def _cell_shares(num_pixels: int, num_cells: int) -> NDArray[np.float64]:
    """Return (num_cells, num_pixels): the share of cell i that pixel j fills; rows sum to 1."""
    cells = np.arange(num_cells + 1) * (num_pixels / num_cells)
    pixels = np.arange(num_pixels + 1)
    overlap = np.minimum(cells[1:, None], pixels[None, 1:]) - np.maximum(cells[:-1, None], pixels[None, :-1])
    return overlap.clip(min=0) * (num_cells / num_pixels)
