"""Confusion matrices: hand-counted, against a slow loop and scikit-learn, and their errors."""

import numpy as np
import pytest
import sklearn.metrics

from densessl.errors import InputError
from densessl.evaluation.confusion import accumulate_confusion, confusion_matrix, highest_prediction


def test_counts_by_hand() -> None:
    labels = np.array([[0, 0, 1], [1, 255, 1]])
    predictions = np.array([[0, 2, 1], [1, 0, 0]])
    assert confusion_matrix(labels, predictions, 2, 3).tolist() == [[1, 0, 1], [1, 2, 0]]
    assert confusion_matrix(labels, predictions, 2, 3).dtype == np.int64


def test_equals_slow_loop_and_sklearn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, (17, 23))
    labels[rng.random(labels.shape) < 0.2] = 255
    predictions = rng.integers(0, 6, labels.shape)
    slow = np.zeros((6, 6), dtype=np.int64)
    for y in range(17):
        for x in range(23):
            if labels[y, x] != 255:
                slow[labels[y, x], predictions[y, x]] += 1
    counted = labels != 255
    other = sklearn.metrics.confusion_matrix(labels[counted], predictions[counted], labels=range(6))
    result = confusion_matrix(labels, predictions, 6, 6)
    assert np.array_equal(result, slow)
    assert np.array_equal(result, other)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint16, np.int64])
def test_small_dtypes_do_not_overflow(dtype: type) -> None:
    labels = np.full((2, 3), 20, dtype=dtype)
    predictions = np.full((2, 3), 19, dtype=dtype)
    result = confusion_matrix(labels, predictions, 21, 21)
    assert result[20, 19] == 6
    assert result.sum() == 6


@pytest.mark.parametrize("ignore_index", [255, 3, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_histogram_of_bytes_equals_selecting_pixels(dtype: type, ignore_index: int) -> None:
    rng = np.random.default_rng(2)
    labels, predictions = rng.integers(0, 200, (31, 17)).astype(dtype), rng.integers(0, 250, (31, 17)).astype(dtype)
    labels[rng.random(labels.shape) < 0.1] = 3
    wide = np.append(labels.astype(np.int64), ignore_index)
    above = np.append(predictions.astype(np.int64), 300 if ignore_index != 3 else 256)  # does not fit into a byte
    result = confusion_matrix(labels, predictions, 256, 257, ignore_index)
    assert np.array_equal(result, confusion_matrix(wide, above, 256, 257, ignore_index))
    assert result.sum() == (labels.astype(np.int64) != ignore_index).sum()


def test_highest_prediction_is_that_of_counted_pixels() -> None:
    labels, predictions = np.array([0, 255, 1]), np.array([4, 9, 2])
    assert highest_prediction(labels, predictions, 255) == 4
    assert highest_prediction(labels, predictions, 0) == 9
    assert highest_prediction(np.full(2, 255), np.array([3, 4]), 255) == 0


def test_empty_and_all_ignored() -> None:
    empty = np.zeros((0, 4), dtype=np.int64)
    assert confusion_matrix(empty, empty, 2, 2).tolist() == [[0, 0], [0, 0]]
    assert confusion_matrix(np.full((2, 2), 255), np.full((2, 2), 77), 2, 2).sum() == 0


def test_other_ignore_index() -> None:
    assert confusion_matrix([0, 1, -1], [1, 1, 0], 2, 2, ignore_index=-1).tolist() == [[0, 1], [0, 1]]
    assert confusion_matrix([0, 1, 1], [1, 1, 0], 2, 2, ignore_index=0).tolist() == [[0, 0], [1, 1]]


def test_accumulates_a_stream() -> None:
    rng = np.random.default_rng(1)
    pairs = [(rng.integers(0, 3, size), rng.integers(0, 4, size)) for size in [(2, 5), (7, 3), (1, 1)]]
    flat_labels = np.concatenate([labels.ravel() for labels, _ in pairs])
    flat_predictions = np.concatenate([predictions.ravel() for _, predictions in pairs])
    whole = confusion_matrix(flat_labels, flat_predictions, 3, 4)
    assert np.array_equal(accumulate_confusion(iter(pairs), 3, 4), whole)


def test_errors_name_value_and_remedy() -> None:
    with pytest.raises(InputError, match=r"label 27 .*above the number of classes 21 .*raise num_classes"):
        confusion_matrix([27], [0], 21, 21)
    with pytest.raises(InputError, match=r"label 21 .*above the number of classes 21"):
        confusion_matrix([21], [0], 21, 21)
    with pytest.raises(InputError, match=r"prediction 30 .*above the number of predicted classes 21.*correct"):
        confusion_matrix([0], [30], 21, 21)
    with pytest.raises(InputError, match=r"label -1 is negative.*255"):
        confusion_matrix([-1], [0], 21, 21)
    with pytest.raises(InputError, match=r"\(2,\) and predictions \(3,\).*resize"):
        confusion_matrix([0, 1], [0, 1, 2], 3, 3)
    with pytest.raises(InputError, match="predictions have dtype float64"):
        confusion_matrix([0], [0.5], 3, 3)
