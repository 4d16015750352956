"""Scores of objects without a panoptic network: COCO's AP and AR of the connected regions of label maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densessl.errors import InputError
from densessl.evaluation.coco_evaluation import CocoImage, evaluate_masks

MAX_REGIONS = 100
"""Regions of a class that count in one image, the largest first (COCO's limit)."""

INSTANCE_RULE = (
    "predicted objects are the 8-connected regions of each predicted class but the background, after matching; a "
    "region's score is its share of the image's area, for label maps hold no confidence; ignored pixels are cut out of "
    "regions and objects; AP and AR are COCO's (IoU 0.50 to 0.95, at most 100 regions an image and class, all areas), "
    "means over the classes that have an object"
)


@dataclass(frozen=True)
class InstanceScores:
    """Average precision and recall of objects, fractions in [0, 1].

    ap: mean over IoU thresholds 0.50, 0.55, ..., 0.95 and classes; ap_50, ap_75: at one threshold. ar_100: recall, mean
    over the same. classes: those that have objects, and the AP and AR of each. objects_from: where objects come from.
    """

    ap: float
    ap_50: float
    ap_75: float
    ar_100: float
    classes: tuple[int, ...]
    ap_per_class: tuple[float, ...]
    ar_per_class: tuple[float, ...]
    num_objects: int
    num_regions: int
    objects_from: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "ap": self.ap,
            "ap_50": self.ap_50,
            "ap_75": self.ap_75,
            "ar_100": self.ar_100,
            "classes": list(self.classes),
            "ap_per_class": list(self.ap_per_class),
            "ar_per_class": list(self.ar_per_class),
            "num_objects": self.num_objects,
            "num_regions": self.num_regions,
            "objects_from": self.objects_from,
            "rule": INSTANCE_RULE,
        }


def score_instances(images: Sequence[CocoImage], classes: Sequence[int], objects_from: str) -> InstanceScores:
    """Score the regions of all images; see `InstanceScores`. Raises `InputError` where no image has an object."""
    num_objects = sum(len(image.objects) for image in images)
    if num_objects == 0:
        raise InputError(
            f"no image has an object of the classes {[label for label in classes if label != 0]}, so instances cannot "
            "be scored; check the labels, or leave instances out"
        )
    curves = evaluate_masks(images, len(classes), (MAX_REGIONS,))
    has_objects: list[int] = np.flatnonzero(curves.recall[0, :, 0] > -1).tolist()
    precision, recall = curves.precision[:, :, has_objects], curves.recall[:, has_objects, 0]
    return InstanceScores(
        ap=float(precision.mean()),
        ap_50=float(precision[0].mean()),
        ap_75=float(precision[5].mean()),
        ar_100=float(recall.mean()),
        classes=tuple(classes[place] for place in has_objects),
        ap_per_class=tuple(precision.mean(axis=(0, 1)).tolist()),
        ar_per_class=tuple(recall.mean(axis=0).tolist()),
        num_objects=num_objects,
        num_regions=sum(len(image.found) for image in images),
        objects_from=objects_from,
    )
