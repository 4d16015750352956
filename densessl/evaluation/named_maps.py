"""Label maps of an image after matching: labels and predictions as places in one list of classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.scores import Scores
from densessl.structures import IGNORE, LabelMap


@dataclass(frozen=True)
class Names:
    """What each label and each predicted value stands for: a place in the list of classes, len(classes) for none."""

    classes: tuple[int, ...]
    of_labels: NDArray[np.int64]
    of_predictions: NDArray[np.int64]


@dataclass(frozen=True)
class NamedMaps:
    """An image's labels and prediction, (height, width) places in the list of classes, `num_classes` for none.

    Labels of no class are ignored. Predictions are named everywhere, also where labels are ignored.
    """

    labels: LabelMap
    predictions: LabelMap
    num_classes: int

    @property
    def counted_predictions(self) -> LabelMap:
        """The predictions, of no class where labels are ignored."""
        return np.where(self.labels < self.num_classes, self.predictions, self.num_classes)


def names_of_classes(classes: tuple[int, ...], num_labels: int, num_predictions: int) -> Names:
    """Return the names of predictions that are classes already."""
    places = np.full(max(num_labels, num_predictions), len(classes), dtype=np.int64)
    places[list(classes)] = np.arange(len(classes))
    return Names(classes, places[:num_labels], places[:num_predictions])


def names_by_matching(scores: Scores, num_labels: int, num_predictions: int) -> Names:
    """Return the names that the matching of these scores gave to labels and predicted values."""
    return Names(scores.classes, scores.rows_of_labels(num_labels), scores.columns_of_predictions(num_predictions))


def name_maps(labels: LabelMap, predictions: LabelMap, names: Names, ignore_index: int = IGNORE) -> NamedMaps:
    """Name the labels and the prediction of an image; values that have no name stand for no class.

    Raises `InputError` where the two maps differ in size.
    """
    if labels.shape != predictions.shape:
        raise InputError(f"labels have shape {labels.shape}, predictions {predictions.shape}; both must have one")
    num_classes = len(names.classes)
    named = _looked_up(labels, names.of_labels, num_classes)
    named[labels == ignore_index] = num_classes
    return NamedMaps(named, _looked_up(predictions, names.of_predictions, num_classes), num_classes)


def _looked_up(values: LabelMap, places: NDArray[np.int64], none: int) -> LabelMap:
    is_known = (values >= 0) & (values < len(places))
    return np.where(is_known, places[np.where(is_known, values, 0)], none)
