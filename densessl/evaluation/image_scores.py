"""Scores of label maps that come one image at a time, with an interval over images."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.bootstrap import ImageTotals, bootstrap_or_none, image_totals
from densessl.evaluation.boundary import boundary_confusion, boundary_scores
from densessl.evaluation.coco_evaluation import CocoImage
from densessl.evaluation.confusion import Confusion, ImageCounts, confusion_matrix, image_counts
from densessl.evaluation.instance_scores import score_instances
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.named_maps import Names, name_maps, names_by_matching, names_of_classes
from densessl.evaluation.named_objects import ObjectTruth, objects_of_maps
from densessl.evaluation.scores import Scores, averaged_over, scores_from_confusion
from densessl.structures import LabelMap


@dataclass(frozen=True)
class LabelledPrediction:
    """The label map of an image and what was predicted, int64 (height, width) both."""

    stem: str
    labels: LabelMap
    prediction: LabelMap


@dataclass(frozen=True)
class ImageScores:
    """Scores over all images, and the counts of each image after matching, by which others are compared to them."""

    scores: Scores
    totals: ImageTotals
    stems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return self.scores.to_json()


def score_images(
    images: Iterable[LabelledPrediction],
    num_labels: int,
    num_predictions: int,
    match: MatchRule,
    classes: tuple[int, ...],
    num_resamples: int,
    seed: int,
    matched: Scores | None = None,
    objects: ObjectTruth | None = None,
    averaged: tuple[int, ...] | None = None,
    unnamed: tuple[int, ...] = (),
) -> ImageScores:
    """Score predictions, one image in memory at a time.

    Boundary IoU and instances need the classes of predicted values while the images pass: they are scored with match
    `none`, and where `matched` tells them.

    Args:
        images: predictions with their labels, of one size.
        num_labels: labels are 0 to num_labels - 1, or ignored.
        num_predictions: predicted values are 0 to num_predictions - 1.
        match: how predicted values become classes.
        classes: the labels that count.
        num_resamples: of images, for the interval of the mIoU; 0 for none, and none is made of a single image.
        seed: of the resamples.
        matched: scores of the same predictions, matched by the same rule; None where they are not known yet.
        objects: the true objects, to score instances too.
        averaged: the classes that means and interval are of, see `averaged_over`; None for all.
        unnamed: predicted values that are matched to no class.

    Raises:
        InputError: no image, no object where instances are scored, sizes that differ or values out of range (these
            name the image).
    """
    total: Confusion = np.zeros((num_labels, num_predictions), dtype=np.int64)
    counts: list[ImageCounts] = []
    stems: list[str] = []
    names = _names(match, matched, classes, num_labels, num_predictions)
    bands: Confusion = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    masks: list[CocoImage] = []
    for image in images:
        own = _counted(image, num_labels, num_predictions)
        total += own
        if names is not None:
            maps = name_maps(image.labels, image.prediction, names)
            bands += boundary_confusion(maps.labels, maps.counted_predictions, maps.num_classes)
            if objects is not None:
                truth = None if objects.read is None else objects.read(image.stem)
                masks.append(objects_of_maps(maps, classes, truth, image.stem))
        counts.append(image_counts(own))
        stems.append(image.stem)
    if not stems:
        raise InputError("no image was predicted, so there is nothing to score; look at the images left out")
    scores = scores_from_confusion(total, len(stems), match, classes, unnamed)
    rows, columns = scores.rows_of_labels(num_labels), scores.columns_of_predictions(num_predictions)
    totals = image_totals(tuple(counts), rows, columns, len(scores.classes))
    if names is not None:
        scores = replace(scores, boundary=boundary_scores(bands))
    if objects is not None and names is not None:
        scores = replace(scores, instances=score_instances(masks, classes, objects.description))
    if averaged is not None:
        scores = averaged_over(scores, averaged)
        totals = replace(totals, is_averaged=np.isin(scores.classes, averaged))
    scores = replace(scores, bootstrap=bootstrap_or_none(totals, num_resamples, seed))
    return ImageScores(scores, totals, tuple(stems))


def _names(
    match: MatchRule, matched: Scores | None, classes: tuple[int, ...], num_labels: int, num_predictions: int
) -> Names | None:
    if matched is not None:
        return names_by_matching(matched, num_labels, num_predictions)
    return names_of_classes(classes, num_labels, num_predictions) if match == "none" else None


def _counted(image: LabelledPrediction, num_labels: int, num_predictions: int) -> NDArray[np.int64]:
    try:
        return confusion_matrix(image.labels, image.prediction, num_labels, num_predictions)
    except InputError as error:
        raise InputError(f"image {image.stem!r}: {error}") from error
