"""Scores of label maps that come one at a time: those of all together, with the counts of each image."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.bootstrap import bootstrap_miou
from densessl.evaluation.boundary import boundary_confusion, boundary_scores
from densessl.evaluation.confusion import accumulate_confusion
from densessl.evaluation.image_scores import ImageScores, LabelledPrediction, score_images
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.scores import scores_from_confusion


def images(num: int = 6) -> list[LabelledPrediction]:
    generator = np.random.default_rng(0)
    drawn = []
    for number in range(num):
        labels = generator.integers(0, 4, (5, 7 + number))
        noise = generator.integers(0, 6, labels.shape)
        predicted = np.where(generator.random(labels.shape) < 0.6, (labels + 1) % 4, noise)
        labels[0] = 255
        drawn.append(LabelledPrediction(f"image{number}", labels, predicted))
    return drawn


def scored(given: list[LabelledPrediction], match: MatchRule = "hungarian", num_resamples: int = 0) -> ImageScores:
    return score_images(iter(given), 4, 6, match, (0, 1, 2), num_resamples, seed=3)


@pytest.mark.parametrize("match", ["none", "hungarian", "majority", "hungarian_counts"])
def test_equal_to_the_confusion_of_all(match: MatchRule) -> None:
    given = images()
    found = scored(given, match)
    total = accumulate_confusion(((image.labels, image.prediction) for image in given), 4, 6)
    assert found.scores.miou == scores_from_confusion(total, len(given), match, (0, 1, 2)).miou
    assert found.stems == tuple(image.stem for image in given)
    right, union = found.totals.right.sum(0), (found.totals.labelled + found.totals.predicted).sum(0)
    assert np.mean(right / (union - right)) == pytest.approx(found.scores.miou)
    assert found.totals.right.shape == (6, 3)
    assert found.to_json() == found.scores.to_json()


def test_the_interval_is_that_of_the_totals() -> None:
    found = scored(images(), num_resamples=200)
    assert found.scores.bootstrap == bootstrap_miou(found.totals, 200, 3)
    assert scored(images()).scores.bootstrap is None
    assert scored(images(1), num_resamples=200).scores.bootstrap is None  # one image has no spread


@pytest.mark.parametrize("match", ["none", "hungarian", "majority"])
def test_boundary_is_that_of_the_matched_classes(match: MatchRule) -> None:
    given = images()
    known = scored(given, match).scores
    found = score_images(iter(given), 4, 6, match, (0, 1, 2), 0, 0, matched=known).scores
    assert replace(found, boundary=None, confusion=known.confusion) == replace(known, boundary=None)
    total = np.zeros((4, 4), dtype=np.int64)
    for image in given:  # labels 3 and 255 are ignored; predictions count as the class they were given
        assignment = range(6) if known.assignment is None else known.assignment
        label_of = [3 if label is None or label > 2 else label for label in assignment]
        labels = np.where(image.labels > 2, 3, image.labels)
        total += boundary_confusion(labels, np.where(labels > 2, 3, np.array(label_of)[image.prediction]), 3)
    assert found.boundary == boundary_scores(total)
    assert (known.boundary == found.boundary) is (match == "none")  # else names are not known in time


def test_faults_name_the_image() -> None:
    good, bad = images(2)
    with pytest.raises(InputError, match="image 'image1': labels have shape"):
        scored([good, LabelledPrediction(bad.stem, bad.labels, bad.prediction[1:])])
    with pytest.raises(InputError, match="image 'image1': prediction 9 is at or above"):
        scored([good, LabelledPrediction(bad.stem, bad.labels, np.full_like(bad.prediction, 9))])

    def none() -> Iterator[LabelledPrediction]:
        yield from ()

    with pytest.raises(InputError, match="no image was predicted"):
        score_images(none(), 4, 6, "none", (0, 1), 0, 0)
