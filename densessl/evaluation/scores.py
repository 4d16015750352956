"""Scores computed from one confusion matrix: IoU and accuracy per class, their means, agreement without matching."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.agreement import adjusted_rand_index, normalised_mutual_information
from densessl.evaluation.bootstrap import Bootstrap, PairedBootstrap
from densessl.evaluation.boundary import BoundaryScores
from densessl.evaluation.confusion import Confusion
from densessl.evaluation.instance_scores import InstanceScores
from densessl.evaluation.matching import UNMATCHED, MatchRule, match_clusters, merge_clusters

ABSENT_CLASS_RULE = "a class absent from labels and predictions has no IoU and is left out of the mean"


@dataclass(frozen=True)
class Scores:
    """How well predictions agree with labels, and what was counted.

    miou: mean of the IoU of the classes that have one, a fraction in [0, 1].
    iou: IoU of each class of `classes`, a fraction; None for a class absent from labels and predictions.
    classes: the class indices that were scored, in the order of `iou` and of the rows of `confusion`.
    pixel_accuracy: share of counted pixels that are right, a fraction.
    accuracy: share of the labelled pixels of each class that are right; None for a class without labelled pixels.
    mean_accuracy: mean of the accuracies that there are.
    frequency_weighted_iou: mean of the IoU weighted by labelled pixels.
    adjusted_rand_index, normalised_mutual_information: agreement of predictions, before matching, and labels.
    confusion: (num_classes, num_classes) pixel counts, labels in rows, predictions after matching in columns;
        where counted pixels are predicted as none of the classes, one more column at the end holds them.
    match: the rule that turned clusters into classes.
    assignment: the class of each cluster (None for a cluster that stands for none); None at match `none`.
    boundary, instances, bootstrap, comparison: None where they were not asked for.
    averaged: the classes that means, accuracies and agreement are of, see `averaged_over`; None for all.
    """

    miou: float
    iou: tuple[float | None, ...]
    classes: tuple[int, ...]
    pixel_accuracy: float
    accuracy: tuple[float | None, ...]
    mean_accuracy: float
    frequency_weighted_iou: float
    adjusted_rand_index: float
    normalised_mutual_information: float
    confusion: Confusion
    num_images: int
    match: MatchRule
    absent_class_rule: str = ABSENT_CLASS_RULE
    assignment: tuple[int | None, ...] | None = None
    boundary: BoundaryScores | None = None
    instances: InstanceScores | None = None
    bootstrap: Bootstrap | None = None
    comparison: PairedBootstrap | None = None
    averaged: tuple[int, ...] | None = None

    @property
    def labels_used(self) -> str:
        """Say in words what the labels touched."""
        if self.match == "none":
            return "the labels were used for scoring only (no matching)"
        return f"matching used the labels ({self.match}): the score is that of the best names for the clusters"

    def rows_of_labels(self, num_labels: int) -> NDArray[np.int64]:
        """Return the row of `confusion` that each label counts in, len(classes) for a label that is ignored."""
        return _positions(self.classes, range(num_labels))

    def columns_of_predictions(self, num_predictions: int) -> NDArray[np.int64]:
        """Return the column of `confusion` that each predicted value counts in, len(classes) for none of the classes.

        Clusters that did not exist when they were matched stand for no class.
        """
        assignment = range(num_predictions) if self.assignment is None else self.assignment[:num_predictions]
        columns = np.full(num_predictions, len(self.classes), dtype=np.int64)
        columns[: len(assignment)] = _positions(self.classes, assignment)
        return columns

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain values for JSON; a class without IoU is null."""
        return {
            "miou": self.miou,
            "iou": list(self.iou),
            "classes": list(self.classes),
            "pixel_accuracy": self.pixel_accuracy,
            "accuracy": list(self.accuracy),
            "mean_accuracy": self.mean_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "adjusted_rand_index": self.adjusted_rand_index,
            "normalised_mutual_information": self.normalised_mutual_information,
            "confusion": self.confusion.tolist(),
            "num_images": self.num_images,
            "match": self.match,
            "absent_class_rule": self.absent_class_rule,
            "assignment": None if self.assignment is None else list(self.assignment),
            "labels_used": self.labels_used,
            **({} if self.averaged is None else {"averaged_classes": list(self.averaged)}),
            **({} if self.boundary is None else self.boundary.to_json()),
            **({} if self.instances is None else {"instances": self.instances.to_json()}),
            **({} if self.bootstrap is None else {"bootstrap": self.bootstrap.to_json()}),
            **({} if self.comparison is None else {"comparison": self.comparison.to_json()}),
        }


def scores_from_confusion(
    confusion: Confusion,
    num_images: int,
    match: MatchRule = "none",
    classes: Sequence[int] | None = None,
    unnamed: Sequence[int] = (),
) -> Scores:
    """Match clusters to classes and score: `IoU_c = TP_c / (TP_c + FP_c + FN_c)` over all images.

    The other scores are `accuracy_c = TP_c / (TP_c + FN_c)`, their mean, the share of right pixels, and
    `sum_c (TP_c + FN_c) IoU_c / sum_c (TP_c + FN_c)` (Long et al., CVPR 2015, section 5), and those of
    `agreement` on the predictions as they are. docs/scores.md lists what each ignores.

    `confusion` is (num_classes, num_predictions), see `confusion_matrix`. With `classes`, pixels of other
    labels are ignored, and a prediction outside `classes` is a miss (it lowers the IoU of the class it should
    have been), never dropped; so is one of the predicted values `unnamed`, which are matched to no class. Raises
    `InputError` where no pixel is left to count or `classes` are not rows of the matrix.
    """
    chosen = check_classes(classes, confusion.shape[0])
    rows = confusion[list(chosen)]
    if rows.sum() == 0:
        raise InputError(
            f"no labelled pixel belongs to the classes {list(chosen)}, so there is nothing to score; check "
            "the labels, the ignore index and the classes"
        )
    if match == "none":
        assignment = tuple(chosen.index(c) if c in chosen else UNMATCHED for c in range(rows.shape[1]))
    else:
        assignment = match_clusters(rows, match, unnamed)
    merged = merge_clusters(rows, assignment)
    iou = _iou_per_class(merged)
    labelled, right = merged.sum(axis=1), np.diagonal(merged)
    accuracy = tuple(float(r / n) if n > 0 else None for r, n in zip(right, labelled, strict=True))
    return Scores(
        miou=_mean(iou),
        iou=iou,
        classes=chosen,
        pixel_accuracy=float(np.trace(merged) / merged.sum()),
        accuracy=accuracy,
        mean_accuracy=_mean(accuracy),
        frequency_weighted_iou=float(np.dot([value or 0.0 for value in iou], labelled) / labelled.sum()),
        adjusted_rand_index=adjusted_rand_index(rows),
        normalised_mutual_information=normalised_mutual_information(rows),
        confusion=merged if merged[:, -1].any() else merged[:, :-1],
        num_images=num_images,
        match=match,
        assignment=None if match == "none" else tuple(None if i == UNMATCHED else chosen[i] for i in assignment),
    )


def averaged_over(scores: Scores, averaged: Sequence[int]) -> Scores:
    """Return the same scores with every mean over some of the classes alone.

    The IoU of each class stays: pixels of the other classes count against those that they are predicted as. miou,
    mean_accuracy, frequency_weighted_iou and the mean boundary IoU are over `averaged`; pixel_accuracy and agreement
    are of the pixels labelled as one of them. Raises `InputError` where there is no such pixel.
    """
    places = [scores.classes.index(label) for label in averaged]
    rows = scores.confusion[places]
    labelled = rows.sum(axis=1)
    if labelled.sum() == 0:
        raise InputError(
            f"no labelled pixel belongs to the classes {list(averaged)}, whose mean is wanted; score more images, or "
            "other classes"
        )
    iou, accuracy = [scores.iou[place] for place in places], [scores.accuracy[place] for place in places]
    boundary = scores.boundary
    if boundary is not None:
        boundary = replace(boundary, mean=_mean([boundary.iou[place] for place in places]))
    return replace(
        scores,
        miou=_mean(iou),
        pixel_accuracy=float(np.diagonal(scores.confusion)[places].sum() / labelled.sum()),
        mean_accuracy=_mean(accuracy),
        frequency_weighted_iou=float(np.dot([value or 0.0 for value in iou], labelled) / labelled.sum()),
        adjusted_rand_index=adjusted_rand_index(rows),
        normalised_mutual_information=normalised_mutual_information(rows),
        boundary=boundary,
        averaged=tuple(averaged),
    )


def check_classes(classes: Sequence[int] | None, num_classes: int) -> tuple[int, ...]:
    """Return the classes to score (all for None); raises `InputError` for none, repeated or unknown ones."""
    if classes is None:
        return tuple(range(num_classes))
    chosen = tuple(int(c) for c in classes)
    if not chosen:
        raise InputError("the list of classes is empty; name at least one class, or leave it out to score all")
    for c in chosen:
        if not 0 <= c < num_classes:
            raise InputError(
                f"class {c} is not one of the {num_classes} classes 0-{num_classes - 1}; correct the list of classes"
            )
        if chosen.count(c) > 1:
            raise InputError(f"class {c} is listed {chosen.count(c)} times in {list(chosen)}; list each class once")
    return chosen


def _positions(classes: Sequence[int], values: Iterable[int | None]) -> NDArray[np.int64]:
    """Return where each value stands in `classes`, len(classes) where it does not."""
    position = {value: index for index, value in enumerate(classes)}
    return np.array([len(classes) if v is None else position.get(v, len(classes)) for v in values], dtype=np.int64)


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def _iou_per_class(merged: Confusion) -> tuple[float | None, ...]:
    """IoU from (classes, classes + 1); the last column holds pixels predicted as none of the classes."""
    num_classes = merged.shape[0]
    right = np.diagonal(merged)
    union = merged.sum(axis=1) + merged.sum(axis=0)[:num_classes] - right
    return tuple(float(r / u) if u > 0 else None for r, u in zip(right, union, strict=True))
