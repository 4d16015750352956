"""Bootstrap over images: against a slow loop over the drawn images, pairing, seeds, images that do not count."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.bootstrap import (
    CHUNK,
    ImageTotals,
    bootstrap_miou,
    compare_paired,
    image_totals,
)
from densessl.evaluation.confusion import confusion_matrix, image_counts
from densessl.evaluation.scores import Scores, scores_from_confusion


def images(seed: int, num_images: int = 9, right: float = 0.6) -> tuple[list[np.ndarray], Scores, ImageTotals]:
    """Confusion matrices of images with few of 5 classes each, their scores, their totals; clusters are renamed."""
    rng = np.random.default_rng(0)
    own = np.random.default_rng(seed)
    matrices = []
    for _ in range(num_images):
        labels = rng.choice(rng.choice(5, 2, replace=False), (8, 9))  # class 2 alone would not count
        labels[rng.random(labels.shape) < 0.1] = 255
        predictions = np.where(own.random(labels.shape) < right, (labels + 2) % 6, own.integers(0, 6, labels.shape))
        matrices.append(confusion_matrix(labels, predictions, 5, 6))
    scores = scores_from_confusion(np.sum(matrices, axis=0), num_images, "hungarian", (4, 0, 1, 3))
    counts = tuple(image_counts(matrix) for matrix in matrices)
    totals = image_totals(counts, scores.rows_of_labels(5), scores.columns_of_predictions(6), 4)
    return matrices, scores, totals


def slow_miou(matrices: list[np.ndarray], scores: Scores, drawn: np.ndarray) -> float:
    """Sum the matrices of the drawn images and take each IoU from it, with the clusters named as before."""
    total = sum(matrices[image] for image in drawn)
    found = []
    for c in scores.classes:
        own = [cluster for cluster, name in enumerate(scores.assignment) if name == c]
        right = total[c, own].sum()
        union = total[c].sum() + total[list(scores.classes)][:, own].sum() - right
        if union > 0:
            found.append(right / union)
    return float(np.mean(found))


def test_totals_are_those_of_the_scores() -> None:
    _, scores, totals = images(1)
    square = scores.confusion[:, :4]
    assert np.array_equal(totals.right.sum(axis=0), np.diagonal(square))
    assert np.array_equal(totals.labelled.sum(axis=0), scores.confusion.sum(axis=1))
    assert np.array_equal(totals.predicted.sum(axis=0), square.sum(axis=0))


def test_interval_equals_a_loop_over_resamples() -> None:
    matrices, scores, totals = images(1)
    num_resamples = CHUNK + 44
    rng = np.random.default_rng(7)
    drawn = np.concatenate([rng.integers(0, 9, (number, 9)) for number in (CHUNK, 44)])
    miou = [slow_miou(matrices, scores, images) for images in drawn]
    result = bootstrap_miou(totals, num_resamples, seed=7)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(miou, [0.025, 0.975])), abs=1e-12)
    assert result.low < scores.miou < result.high
    assert result.to_json()["miou_interval"] == [result.low, result.high]


def test_pairs_share_their_resamples() -> None:
    first_matrices, first_scores, first = images(1, right=0.7)
    second_matrices, second_scores, second = images(2, right=0.6)
    result = compare_paired(first, second, 200, 3, "second")
    drawn = np.random.default_rng(3).integers(0, 9, (200, 9))
    a = np.array([slow_miou(first_matrices, first_scores, images) for images in drawn])
    b = np.array([slow_miou(second_matrices, second_scores, images) for images in drawn])
    assert result.better == pytest.approx(np.mean(a > b))
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(a - b, [0.025, 0.975])), abs=1e-12)
    assert result.difference == pytest.approx(first_scores.miou - second_scores.miou)
    assert result.other_miou == pytest.approx(second_scores.miou)
    alone = bootstrap_miou(second, 200, 3)
    assert (result.other_low, result.other_high) == (alone.low, alone.high)
    assert result.to_json()["predictions"] == "second"


def test_the_same_predictions_are_equal_in_every_resample() -> None:
    _, _, totals = images(1)
    result = compare_paired(totals, totals, 100, 0, "itself")
    assert (result.better, result.equal, result.difference, result.low, result.high) == (0.0, 1.0, 0.0, 0.0, 0.0)


def test_covers_the_mean_of_independent_images_as_often_as_it_says() -> None:
    """One class that every pixel is labelled: the mIoU is a mean of shares, whose true value is known."""
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        right = rng.integers(0, 101, (60, 1))  # mean 50 of 100
        one = ImageTotals(right, np.full((60, 1), 100), right)
        result = bootstrap_miou(one, 200, trial)
        hits += result.low <= 0.5 <= result.high
    assert 0.89 <= hits / 200 <= 0.99


def test_same_seed_same_interval() -> None:
    _, _, totals = images(1)
    assert bootstrap_miou(totals, 100, 5) == bootstrap_miou(totals, 100, 5)
    assert bootstrap_miou(totals, 100, 5) != bootstrap_miou(totals, 100, 6)


def test_images_without_counted_pixels_are_not_drawn() -> None:
    _, _, totals = images(1)
    none = np.zeros((3, 4), dtype=np.int64)
    padded = ImageTotals(*(np.concatenate([none, part]) for part in (totals.right, totals.labelled, totals.predicted)))
    assert bootstrap_miou(padded, 100, 5) == bootstrap_miou(totals, 100, 5)


def test_images_of_a_class_outside_the_mean_are_drawn() -> None:
    """Images that hold class 0 alone count by what is predicted on them; resamples without a mean are left out."""
    labelled = np.array([[100, 0], [100, 0], [0, 100], [40, 60]])
    predicted = np.array([[20, 80], [100, 0], [10, 90], [40, 60]])
    totals = ImageTotals(np.minimum(labelled, predicted), labelled, predicted, np.array([False, True]))
    drawn = np.random.default_rng(2).integers(0, 4, (200, 4))
    right, union = totals.right[drawn, 1].sum(1), (labelled + predicted - totals.right)[drawn, 1].sum(1)
    miou = right[union > 0] / union[union > 0]
    assert len(miou) < 200
    found = bootstrap_miou(totals, 200, 2)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(miou, [0.025, 0.975])))
    assert found.num_images == 4
    pair = compare_paired(totals, totals, 200, 2, "itself")
    assert (pair.other_miou, pair.equal) == (pytest.approx(150 / 240), 1.0)


def test_errors() -> None:
    _, _, totals = images(1)
    single = ImageTotals(totals.right[:1], totals.labelled[:1], totals.predicted[:1])
    with pytest.raises(InputError, match=r"images with pixels that count: 1; .* at least 2"):
        bootstrap_miou(single, 100, 0)
    other = ImageTotals(totals.right, totals.labelled + 1, totals.predicted)
    with pytest.raises(InputError, match="different labelled pixels"):
        compare_paired(totals, other, 100, 0, "other")
