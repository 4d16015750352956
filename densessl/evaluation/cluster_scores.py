"""Score many clusterings of the same masks with one pass over the labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.confusion import Confusion, confusion_matrix
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.scores import Scores, scores_from_confusion
from densessl.structures import IGNORE, InstanceMap, LabelMap

MEANS_OVER_SEEDS = (
    *("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"),
    *("adjusted_rand_index", "normalised_mutual_information"),
)
"""Scores besides the mIoU that are recorded as means over seeds."""


@dataclass(frozen=True)
class RepeatedScores:
    """Scores of the same embeddings clustered with several seeds.

    miou: mean over seeds; miou_std: standard deviation over seeds (of the sample, 0 for one seed); both fractions.
    iou: per class, mean over the seeds in which the class has one; None where it never has.
    per_seed: the scores of each seed.
    """

    miou: float
    miou_std: float
    iou: tuple[float | None, ...]
    per_seed: tuple[Scores, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON: the mean over seeds, each seed's mIoU, and the first seed's details."""
        first = self.per_seed[0].to_json()
        return {
            **{key: first[key] for key in ("classes", "match", "absent_class_rule", "num_images", "labels_used")},
            "miou": self.miou,
            "miou_std": self.miou_std,
            "miou_per_seed": [scores.miou for scores in self.per_seed],
            "iou": list(self.iou),
            **{key: float(np.mean([getattr(scores, key) for scores in self.per_seed])) for key in MEANS_OVER_SEEDS},
            "confusion": first["confusion"],
            "assignment": first["assignment"],
        }


def mask_label_counts(label_map: LabelMap, instances: InstanceMap, stem: str) -> Confusion:
    """Count the labels under each mask: int64 (255, num_masks + 1), column 0 the background.

    Raises:
        InputError: sizes differ.
    """
    if label_map.shape != instances.shape:
        raise InputError(
            f"image {stem!r} has a label map of {label_map.shape} and masks of {instances.shape} (height, width); "
            "both must have the image's size"
        )
    return confusion_matrix(label_map, instances, IGNORE, int(instances.max(initial=0)) + 1)


def confusion_of_clusters(
    counts: Sequence[Confusion], cluster_ids: Sequence[NDArray[np.int64]], num_predictions: int
) -> Confusion:
    """Add up the label counts of masks by cluster: the confusion matrix (labels, num_predictions).

    Args:
        counts: for each image, (labels, num_masks + 1), see `mask_label_counts`.
        cluster_ids: for each image, the cluster of masks 1, 2, ...; -1 for background.
        num_predictions: columns; column 0 is the background, c + 1 is cluster c.
    """
    total = np.zeros((counts[0].shape[0], num_predictions), dtype=np.int64)
    for image_counts, ids in zip(counts, cluster_ids, strict=True):
        columns = np.concatenate([[0], ids + 1])
        np.add.at(total.T, columns[: image_counts.shape[1]], image_counts.T)
    return total


def score_repeatedly(
    confusions: Sequence[Confusion],
    num_images: int,
    match: MatchRule,
    classes: Sequence[int],
    unnamed: Sequence[int] = (),
) -> RepeatedScores:
    """Match and score the confusion matrix of each seed; see `RepeatedScores`.

    `unnamed` predicted values stand for no class (`match_clusters`).
    """
    per_seed = tuple(scores_from_confusion(confusion, num_images, match, classes, unnamed) for confusion in confusions)
    miou = [scores.miou for scores in per_seed]
    columns = zip(*(scores.iou for scores in per_seed), strict=True)
    found = [[value for value in column if value is not None] for column in columns]
    return RepeatedScores(
        miou=float(np.mean(miou)),
        miou_std=float(np.std(miou, ddof=1)) if len(miou) > 1 else 0.0,
        iou=tuple(float(np.mean(values)) if values else None for values in found),
        per_seed=per_seed,
    )
