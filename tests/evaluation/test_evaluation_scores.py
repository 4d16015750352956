"""Scores: computed by hand, against torchmetrics and scikit-learn, absent classes, subsets of classes."""

import json

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.agreement import adjusted_rand_index, normalised_mutual_information
from densessl.evaluation.confusion import confusion_matrix
from densessl.evaluation.scores import ABSENT_CLASS_RULE, averaged_over, scores_from_confusion


def test_by_hand() -> None:
    scores = scores_from_confusion(np.array([[6, 2], [1, 3]]), num_images=4)
    assert scores.iou == pytest.approx((6 / 9, 3 / 6))
    assert scores.miou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert scores.pixel_accuracy == pytest.approx(9 / 12)
    assert scores.classes == (0, 1)
    assert scores.num_images == 4
    assert scores.match == "none"
    assert scores.assignment is None
    assert scores.absent_class_rule == ABSENT_CLASS_RULE
    assert "scoring only" in scores.labels_used


def test_accuracy_and_weighted_iou_by_hand() -> None:
    scores = scores_from_confusion(np.array([[6, 2, 1], [1, 3, 0], [0, 0, 0], [0, 0, 0]]), num_images=1)
    assert scores.accuracy == pytest.approx((6 / 9, 3 / 4, None, None))  # class 2 is predicted, never labelled
    assert scores.mean_accuracy == pytest.approx((6 / 9 + 3 / 4) / 2)
    assert scores.iou == pytest.approx((6 / 10, 3 / 6, 0.0, None))
    assert scores.frequency_weighted_iou == pytest.approx((9 * 6 / 10 + 4 * 3 / 6) / 13)


def test_agreement_is_that_before_matching() -> None:
    confusion = np.array([[5, 5, 0], [0, 0, 8], [3, 1, 9]])
    for rule in ("none", "hungarian", "majority"):
        scores = scores_from_confusion(confusion, 1, rule, classes=[0, 1])
        assert scores.adjusted_rand_index == adjusted_rand_index(confusion[:2])
        assert scores.normalised_mutual_information == normalised_mutual_information(confusion[:2])


def test_rows_and_columns_lead_back_to_the_confusion_matrix() -> None:
    confusion = np.random.default_rng(0).integers(1, 9, (5, 7))
    for rule in ("none", "hungarian", "majority"):
        scores = scores_from_confusion(confusion, 1, rule, classes=[4, 0, 2])
        rows, columns = scores.rows_of_labels(5), scores.columns_of_predictions(7)
        counted = np.zeros((4, 4), dtype=np.int64)
        for label in range(5):
            for prediction in range(7):
                counted[rows[label], columns[prediction]] += confusion[label, prediction]
        assert np.array_equal(counted[:3, : scores.confusion.shape[1]], scores.confusion)
    assert scores.columns_of_predictions(9)[7:].tolist() == [3, 3]


def test_absent_class_has_no_iou() -> None:
    scores = scores_from_confusion(np.array([[6, 0, 2], [0, 0, 0], [0, 0, 4]]), 1)
    assert scores.iou == pytest.approx((6 / 8, None, 4 / 6))
    assert scores.miou == pytest.approx((6 / 8 + 4 / 6) / 2)
    only_predicted = scores_from_confusion(np.array([[6, 2], [0, 0]]), 1)
    assert only_predicted.iou == pytest.approx((6 / 8, 0.0))  # predicted, never labelled: wrong, not absent


def test_all_background_predictions() -> None:
    labels = np.array([[0, 0, 0], [1, 2, 2]])
    confusion = confusion_matrix(labels, np.zeros_like(labels), 3, 3)
    scores = scores_from_confusion(confusion, 1)
    assert scores.iou == pytest.approx((0.5, 0.0, 0.0))
    assert scores.miou == pytest.approx(1 / 6)
    matched = scores_from_confusion(confusion, 1, "hungarian")
    assert matched.iou == pytest.approx((0.5, 0.0, 0.0))
    assert matched.assignment == (0, None, None)


@pytest.fixture
def torchmetrics_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchmetrics brings its counts to float32 by `Tensor.float`, whatever its `set_dtype`; here that is float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.mark.usefixtures("torchmetrics_in_double")
@pytest.mark.parametrize("seed", range(3))
def test_parity_with_torchmetrics_and_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, (4, 31, 22))
    labels[rng.random(labels.shape) < 0.1] = 255
    predictions = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, 7, labels.shape))
    predictions[predictions == 255] = 0
    scores = scores_from_confusion(confusion_matrix(labels, predictions, 7, 7), 4)
    assert np.array(scores.iou) == pytest.approx(by_torchmetrics("JaccardIndex", labels, predictions, "none"), abs=1e-9)
    assert np.array(scores.accuracy) == pytest.approx(
        by_torchmetrics("Accuracy", labels, predictions, "none"), abs=1e-9
    )
    means = {
        ("JaccardIndex", "macro"): scores.miou,
        ("JaccardIndex", "weighted"): scores.frequency_weighted_iou,
        ("Accuracy", "micro"): scores.pixel_accuracy,
        ("Accuracy", "macro"): scores.mean_accuracy,
    }
    for (metric, average), ours in means.items():
        assert ours == pytest.approx(float(by_torchmetrics(metric, labels, predictions, average)), abs=1e-9)
    counted = labels != 255
    jaccard = sklearn.metrics.jaccard_score(labels[counted], predictions[counted], average="macro")
    accuracy = sklearn.metrics.accuracy_score(labels[counted], predictions[counted])
    assert scores.miou == pytest.approx(jaccard, abs=1e-9)
    assert scores.pixel_accuracy == pytest.approx(accuracy, abs=1e-9)
    balanced = sklearn.metrics.balanced_accuracy_score(labels[counted], predictions[counted])
    recall = sklearn.metrics.recall_score(labels[counted], predictions[counted], average=None, labels=range(7))
    weighted = sklearn.metrics.jaccard_score(labels[counted], predictions[counted], average="weighted")
    assert scores.mean_accuracy == pytest.approx(balanced, abs=1e-9)
    assert np.array(scores.accuracy) == pytest.approx(recall, abs=1e-9)
    assert scores.frequency_weighted_iou == pytest.approx(weighted, abs=1e-9)


def by_torchmetrics(metric: str, labels: NDArray, predictions: NDArray, average: str) -> NDArray:
    """What a metric of torchmetrics says of 7 classes, 255 ignored; a number for each class where there is no mean."""
    module = getattr(torchmetrics, metric)("multiclass", num_classes=7, ignore_index=255, average=average)
    found = module(torch.from_numpy(predictions), torch.from_numpy(labels))
    assert found.dtype == torch.float64
    return found.numpy()


@pytest.mark.usefixtures("torchmetrics_in_double")
@pytest.mark.parametrize("seed", range(3))
def test_parity_with_absent_classes(seed: int) -> None:
    """Class 5 occurs nowhere, class 6 is predicted only, class 2 is labelled only."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 3, 4, 255], (3, 24, 35))
    predictions = np.where(rng.random(labels.shape) < 0.5, labels, rng.choice([0, 1, 3, 4, 6], labels.shape))
    predictions[(predictions == 255) | (predictions == 2)] = 6
    scores = scores_from_confusion(confusion_matrix(labels, predictions, 7, 7), 3)
    counted = labels != 255
    pair = labels[counted], predictions[counted]
    assert scores.iou[5] is None
    assert scores.accuracy[5:] == (None, None)
    assert scores.accuracy[2] == scores.iou[2] == scores.iou[6] == 0.0
    assert scores.miou == pytest.approx(sklearn.metrics.jaccard_score(*pair, average="macro"), abs=1e-9)
    assert scores.mean_accuracy == pytest.approx(sklearn.metrics.recall_score(*pair, average="macro", labels=range(5)))
    weighted = sklearn.metrics.jaccard_score(*pair, average="weighted")
    assert scores.frequency_weighted_iou == pytest.approx(weighted, abs=1e-9)
    for average, ours in (("macro", scores.miou), ("weighted", scores.frequency_weighted_iou)):
        assert ours == pytest.approx(float(by_torchmetrics("JaccardIndex", labels, predictions, average)), abs=1e-9)
    theirs = float(by_torchmetrics("Accuracy", labels, predictions, "micro"))
    assert scores.pixel_accuracy == pytest.approx(theirs, abs=1e-9)
    # torchmetrics' macro accuracy counts class 6, which is predicted only, as 0: the mean is over six classes there
    theirs = float(by_torchmetrics("Accuracy", labels, predictions, "macro"))
    assert scores.mean_accuracy == pytest.approx(theirs * 6 / 5, abs=1e-9)


def test_subset_of_classes_ignores_other_labels_and_keeps_misses() -> None:
    confusion = np.array([[10, 1, 2], [7, 7, 7], [3, 4, 5]])
    scores = scores_from_confusion(confusion, 1, classes=[0, 2])
    # Row 1 is ignored; predictions of class 1 are misses of classes 0 (1 pixel) and 2 (4 pixels).
    assert scores.confusion.tolist() == [[10, 2, 1], [3, 5, 4]]
    assert scores.iou == pytest.approx((10 / (10 + 2 + 1 + 3), 5 / (5 + 3 + 4 + 2)))
    assert scores.pixel_accuracy == pytest.approx(15 / 25)
    assert scores.classes == (0, 2)


def test_subset_order_is_kept_and_matching_names_classes() -> None:
    confusion = np.zeros((5, 3), dtype=np.int64)
    confusion[4, 0], confusion[2, 1], confusion[1, 2] = 8, 6, 100
    scores = scores_from_confusion(confusion, 1, "hungarian", classes=[4, 2])
    assert scores.classes == (4, 2)
    assert scores.assignment == (4, 2, None)  # cluster 2 lies on an ignored class only
    assert scores.iou == pytest.approx((1.0, 1.0))
    assert scores.confusion.tolist() == [[8, 0], [0, 6]]
    assert "matching used the labels (hungarian)" in scores.labels_used


def test_more_clusters_than_classes() -> None:
    confusion = np.array([[8, 0, 4], [0, 6, 2]])
    hungarian = scores_from_confusion(confusion, 1, "hungarian")
    assert hungarian.assignment == (0, 1, None)
    assert hungarian.iou == pytest.approx((8 / 12, 6 / 8))
    assert hungarian.confusion.tolist() == [[8, 0, 4], [0, 6, 2]]
    assert hungarian.pixel_accuracy == pytest.approx(14 / 20)
    majority = scores_from_confusion(confusion, 1, "majority")
    assert majority.assignment == (0, 1, 0)
    assert majority.iou == pytest.approx((12 / 14, 6 / 8))
    assert majority.confusion.tolist() == [[12, 0], [2, 6]]


def test_fewer_clusters_than_classes_scores_zero() -> None:
    scores = scores_from_confusion(np.array([[8, 0], [0, 6], [0, 2]]), 1, "hungarian")
    assert scores.iou == pytest.approx((1.0, 6 / 8, 0.0))
    assert scores.miou == pytest.approx((1 + 6 / 8) / 3)


def test_perfect_clusters_in_any_order_score_one() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (9, 14))
    renamed = np.array([3, 0, 4, 2, 1])[labels]
    for rule in ("hungarian", "majority", "highest_iou"):
        assert scores_from_confusion(confusion_matrix(labels, renamed, 5, 5), 1, rule).miou == 1.0


def test_json_is_strict_and_complete() -> None:
    scores = scores_from_confusion(np.array([[6, 0, 2], [0, 0, 0], [0, 0, 4]]), 3, "majority")
    value = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    keys = {
        "miou",
        "iou",
        "classes",
        "pixel_accuracy",
        "confusion",
        "num_images",
        "match",
        "absent_class_rule",
    }
    assert keys <= value.keys()
    assert value["iou"][1] is None
    assert value["confusion"] == scores.confusion.tolist()
    assert value["assignment"] == [0, None, 2]


def test_means_over_some_classes_by_hand() -> None:
    whole = scores_from_confusion(np.array([[50, 10, 0], [2, 6, 2], [0, 1, 4]]), 1)
    some = averaged_over(whole, (1, 2))
    assert some.iou == whole.iou  # the ten pixels of class 0 count against class 1
    assert some.miou == pytest.approx((6 / 21 + 4 / 7) / 2)
    assert some.frequency_weighted_iou == pytest.approx((10 * 6 / 21 + 5 * 4 / 7) / 15)
    assert some.mean_accuracy == pytest.approx((6 / 10 + 4 / 5) / 2)
    assert some.pixel_accuracy == pytest.approx(10 / 15)
    assert some.adjusted_rand_index == adjusted_rand_index(np.array([[2, 6, 2], [0, 1, 4]]))
    assert some.to_json()["averaged_classes"] == [1, 2]
    assert "averaged_classes" not in whole.to_json()
    absent = scores_from_confusion(np.array([[50, 10], [0, 0]]), 1)
    with pytest.raises(InputError, match=r"no labelled pixel belongs to the classes \[1\]"):
        averaged_over(absent, (1,))


def test_errors() -> None:
    confusion = np.array([[6, 2], [0, 0]])
    with pytest.raises(InputError, match=r"classes \[1\].*nothing to score"):
        scores_from_confusion(confusion, 1, classes=[1])
    with pytest.raises(InputError, match="class 5 is not one of the 2 classes 0-1"):
        scores_from_confusion(confusion, 1, classes=[0, 5])
    with pytest.raises(InputError, match="class 0 is listed 2 times"):
        scores_from_confusion(confusion, 1, classes=[0, 0])
    with pytest.raises(InputError, match="list of classes is empty"):
        scores_from_confusion(confusion, 1, classes=[])
