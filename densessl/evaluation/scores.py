"""Scores computed from one confusion matrix: IoU per class, their mean, pixel accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densessl.errors import InputError
from densessl.evaluation.confusion import Confusion
from densessl.evaluation.matching import UNMATCHED, MatchRule, match_clusters, merge_clusters

ABSENT_CLASS_RULE = "a class absent from labels and predictions has no IoU and is left out of the mean"


@dataclass(frozen=True)
class Scores:
    """How well predictions agree with labels, and what was counted.

    miou: mean of the IoU of the classes that have one, a fraction in [0, 1].
    iou: IoU of each class of `classes`, a fraction; None for a class absent from labels and predictions.
    classes: the class indices that were scored, in the order of `iou` and of the rows of `confusion`.
    pixel_accuracy: share of counted pixels that are right, a fraction.
    confusion: (num_classes, num_classes) pixel counts, labels in rows, predictions after matching in columns;
        where counted pixels are predicted as none of the classes, one more column at the end holds them.
    match: the rule that turned clusters into classes.
    assignment: the class of each cluster (None for a cluster that stands for none); None at match `none`.
    """

    miou: float
    iou: tuple[float | None, ...]
    classes: tuple[int, ...]
    pixel_accuracy: float
    confusion: Confusion
    num_images: int
    match: MatchRule
    absent_class_rule: str = ABSENT_CLASS_RULE
    assignment: tuple[int | None, ...] | None = None

    @property
    def labels_used(self) -> str:
        """Say in words what the labels touched."""
        if self.match == "none":
            return "the labels were used for scoring only (no matching)"
        return f"matching used the labels ({self.match}): the score is that of the best names for the clusters"

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain values for JSON; a class without IoU is null."""
        return {
            "miou": self.miou,
            "iou": list(self.iou),
            "classes": list(self.classes),
            "pixel_accuracy": self.pixel_accuracy,
            "confusion": self.confusion.tolist(),
            "num_images": self.num_images,
            "match": self.match,
            "absent_class_rule": self.absent_class_rule,
            "assignment": None if self.assignment is None else list(self.assignment),
            "labels_used": self.labels_used,
        }


def scores_from_confusion(
    confusion: Confusion,
    num_images: int,
    match: MatchRule = "none",
    classes: Sequence[int] | None = None,
) -> Scores:
    """Match clusters to classes and score: `IoU_c = TP_c / (TP_c + FP_c + FN_c)` over all images.

    `confusion` is (num_classes, num_predictions), see `confusion_matrix`. With `classes`, pixels of other
    labels are ignored, and a prediction outside `classes` is a miss (it lowers the IoU of the class it should
    have been), never dropped. Raises `InputError` where no pixel is left to count or `classes` are not rows
    of the matrix.
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
        assignment = match_clusters(rows, match)
    merged = merge_clusters(rows, assignment)
    iou = _iou_per_class(merged)
    return Scores(
        miou=float(np.mean([value for value in iou if value is not None])),
        iou=iou,
        classes=chosen,
        pixel_accuracy=float(np.trace(merged) / merged.sum()),
        confusion=merged if merged[:, -1].any() else merged[:, :-1],
        num_images=num_images,
        match=match,
        assignment=None if match == "none" else tuple(None if i == UNMATCHED else chosen[i] for i in assignment),
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


def _iou_per_class(merged: Confusion) -> tuple[float | None, ...]:
    """IoU from (classes, classes + 1); the last column holds pixels predicted as none of the classes."""
    num_classes = merged.shape[0]
    right = np.diagonal(merged)
    union = merged.sum(axis=1) + merged.sum(axis=0)[:num_classes] - right
    return tuple(float(r / u) if u > 0 else None for r, u in zip(right, union, strict=True))
