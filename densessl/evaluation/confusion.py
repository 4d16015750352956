"""The confusion matrix: the one table from which every segmentation score is computed."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from densessl.errors import InputError
from densessl.structures import IGNORE

Confusion = NDArray[np.int64]  # (num_labels, num_predictions), pixel counts


@dataclass(frozen=True)
class ImageCounts:
    """The confusion matrix of one image without its empty cells: 12 bytes for each cell that is not.

    labels, predictions: int32 (num_cells,), row and column. pixels: uint32 (num_cells,), above 0.
    """

    labels: NDArray[np.int32]
    predictions: NDArray[np.int32]
    pixels: NDArray[np.uint32]


def confusion_matrix(
    labels: ArrayLike,
    predictions: ArrayLike,
    num_labels: int,
    num_predictions: int,
    ignore_index: int = IGNORE,
) -> Confusion:
    """Count how often each label meets each prediction.

    `confusion[l, p]` is the number of pixels labelled l and predicted as p.

    `labels` and `predictions` are integer arrays of one shape. Pixels labelled `ignore_index` are left out
    whatever is predicted there. Returns int64 (num_labels, num_predictions). Raises `InputError` for shapes
    that differ and for a counted value out of range. Counts of several images add up: the sum of their
    matrices is the matrix of the whole set.
    """
    label_values, prediction_values = counted_pixels(labels, predictions, ignore_index)
    _check_range(label_values, "label", "classes", num_labels, "num_classes", ignore_index)
    _check_range(prediction_values, "prediction", "predicted classes", num_predictions, "it", ignore_index)
    pairs = label_values * num_predictions + prediction_values
    counts = np.bincount(pairs, minlength=num_labels * num_predictions)
    return counts.reshape(num_labels, num_predictions).astype(np.int64, copy=False)


def accumulate_confusion(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]],
    num_labels: int,
    num_predictions: int,
    ignore_index: int = IGNORE,
) -> Confusion:
    """Sum the confusion matrices of a stream of (labels, predictions); holds one pair in memory at a time."""
    total = np.zeros((num_labels, num_predictions), dtype=np.int64)
    for labels, predictions in pairs:
        total += confusion_matrix(labels, predictions, num_labels, num_predictions, ignore_index)
    return total


def image_counts(confusion: Confusion) -> ImageCounts:
    """Return the cells of one image's confusion matrix that are not empty."""
    labels, predictions = np.nonzero(confusion)
    pixels = confusion[labels, predictions].astype(np.uint32)
    return ImageCounts(labels.astype(np.int32), predictions.astype(np.int32), pixels)


def counted_pixels(
    labels: ArrayLike, predictions: ArrayLike, ignore_index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels and predictions of the pixels that count, each int64 (num_counted,)."""
    label_array, prediction_array = np.asarray(labels), np.asarray(predictions)
    if label_array.shape != prediction_array.shape:
        raise InputError(
            f"labels have shape {label_array.shape} and predictions {prediction_array.shape}; both must be "
            "equal, resize the predictions (nearest neighbour) to the labels"
        )
    for name, array in (("labels", label_array), ("predictions", prediction_array)):
        if array.dtype.kind not in "iub":
            raise InputError(f"{name} have dtype {array.dtype}; class indices must be integers")
    is_counted = label_array != ignore_index
    return label_array[is_counted].astype(np.int64), prediction_array[is_counted].astype(np.int64)


def _check_range(
    values: NDArray[np.int64], name: str, counted: str, number: int, setting: str, ignore_index: int
) -> None:
    if values.size == 0:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise InputError(
            f"{name} {low} is negative; values are 0-{number - 1}, map it to the ignore index {ignore_index}"
        )
    if high >= number:
        mend = f"raise {setting}" if setting != "it" else "correct the predictions, or match them as clusters"
        raise InputError(
            f"{name} {high} is at or above the number of {counted} {number} (values are 0-{number - 1}, "
            f"ignored labels {ignore_index}); {mend}"
        )
