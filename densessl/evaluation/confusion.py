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
    label_array, prediction_array = _checked_pair(labels, predictions)
    table = _table_of_bytes(label_array, prediction_array, ignore_index)
    if table is not None:
        _check_range(*_ends(table.sum(axis=1)), "label", "classes", num_labels, "num_classes", ignore_index)
        _check_range(*_ends(table.sum(axis=0)), "prediction", "predicted classes", num_predictions, "it", ignore_index)
        return _resized(table, num_labels, num_predictions)
    is_counted = label_array != ignore_index
    label_values = label_array[is_counted].astype(np.int64)
    prediction_values = prediction_array[is_counted].astype(np.int64)
    if label_values.size:
        ends = int(label_values.min()), int(label_values.max())
        _check_range(*ends, "label", "classes", num_labels, "num_classes", ignore_index)
        ends = int(prediction_values.min()), int(prediction_values.max())
        _check_range(*ends, "prediction", "predicted classes", num_predictions, "it", ignore_index)
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


def highest_prediction(labels: NDArray[np.integer], predictions: NDArray[np.integer], ignore_index: int) -> int:
    """Return the highest value predicted on pixels that count, 0 where none does."""
    highest = int(predictions.max(initial=0))
    if ((predictions == highest) & (labels != ignore_index)).any():  # mostly so, and cheaper than selecting pixels
        return highest
    return int(predictions[labels != ignore_index].max(initial=0))


def _checked_pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    label_array, prediction_array = np.asarray(labels), np.asarray(predictions)
    if label_array.shape != prediction_array.shape:
        raise InputError(
            f"labels have shape {label_array.shape} and predictions {prediction_array.shape}; both must be "
            "equal, resize the predictions (nearest neighbour) to the labels"
        )
    for name, array in (("labels", label_array), ("predictions", prediction_array)):
        if array.dtype.kind not in "iub":
            raise InputError(f"{name} have dtype {array.dtype}; class indices must be integers")
    return label_array, prediction_array


def _table_of_bytes(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], ignore_index: int
) -> Confusion | None:
    """Return the counts (256, 256) of all pairs whose label counts, None where a value does not fit into a byte.

    One histogram of 16-bit numbers, a label and a prediction in each: nothing is selected pixel by pixel, and what
    is out of range is looked for in the table.
    """
    if not (_are_bytes(labels) and _are_bytes(predictions)):
        return None
    pairs = labels.astype(np.uint16)
    pairs <<= 8
    pairs |= predictions.astype(np.uint8, copy=False)
    table = np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256)
    if 0 <= ignore_index < 256:
        table[ignore_index] = 0
    return table.astype(np.int64, copy=False)


def _are_bytes(values: NDArray[np.integer]) -> bool:
    if values.dtype == np.uint8 or values.size == 0:
        return True
    return int(values.min()) >= 0 and int(values.max()) < 256


def _ends(pixels: NDArray[np.int64]) -> tuple[int, int]:
    """Return the lowest and the highest index with pixels, (0, 0) where none is."""
    present = np.flatnonzero(pixels)
    return (int(present[0]), int(present[-1])) if len(present) else (0, 0)


def _resized(table: Confusion, num_labels: int, num_predictions: int) -> Confusion:
    """Return the table cut, or filled with zeros, to (num_labels, num_predictions)."""
    counts = np.zeros((num_labels, num_predictions), dtype=np.int64)
    part = table[:num_labels, :num_predictions]
    counts[: part.shape[0], : part.shape[1]] = part
    return counts


def _check_range(low: int, high: int, name: str, counted: str, number: int, setting: str, ignore_index: int) -> None:
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
