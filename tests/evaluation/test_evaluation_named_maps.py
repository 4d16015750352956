"""Label maps after matching: names of labels and clusters, what is ignored, values without a name."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.confusion import confusion_matrix
from densessl.evaluation.named_maps import name_maps, names_by_matching, names_of_classes
from densessl.evaluation.scores import scores_from_confusion

LABELS = np.array([[0, 4, 4], [2, 255, 0]])


def test_classes_name_themselves() -> None:
    names = names_of_classes((0, 4), 5, 5)
    maps = name_maps(LABELS, np.array([[4, 4, 2], [0, 4, 77]]), names)
    assert maps.labels.tolist() == [[0, 1, 1], [2, 2, 0]]  # class 2 is not listed, 255 is ignored
    assert maps.predictions.tolist() == [[1, 1, 2], [0, 1, 2]]
    assert maps.counted_predictions.tolist() == [[1, 1, 2], [2, 2, 2]]


def test_clusters_take_the_names_of_their_matching() -> None:
    predictions = np.array([[3, 1, 0], [1, 0, 3]])
    scores = scores_from_confusion(confusion_matrix(LABELS, predictions, 5, 4), 1, "majority", (0, 4))
    maps = name_maps(LABELS, predictions, names_by_matching(scores, 5, 4))
    assert maps.predictions.tolist() == [[0, 1, 1], [1, 1, 0]]


def test_two_sizes() -> None:
    with pytest.raises(InputError, match=r"labels have shape \(2, 3\), predictions \(3, 2\)"):
        name_maps(LABELS, LABELS.T, names_of_classes((0,), 5, 5))
