"""Boundary IoU of label maps: the IoU of the bands along the contours of each class (arXiv:2103.16562)."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.confusion import Confusion, confusion_matrix
from densessl.structures import LabelMap, MaskArray

DILATION_RATIO = 0.02
"""Width of the band, as a share of the image's diagonal (the paper's, for COCO and Cityscapes alike)."""

MAX_CLASSES = 65535
"""OpenCV finds the extremes around a pixel for values of at most 16 bits."""

BOUNDARY_RULE = (
    "bands are those pixels of a class that lie within 2 % of the image's diagonal of its contour; ignored pixels "
    "belong to no class in labels and predictions, so their outline and the image's edge are contours; many-to-one "
    "clusters are merged first; a class without band in labels and predictions is left out of the mean"
)


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary IoU over all images, fractions in [0, 1].

    mean: mean over the classes that have one. iou: in the order of the classes; None for a class without band in
    labels and predictions.
    """

    mean: float
    iou: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "mean_boundary_iou": self.mean,
            "boundary_iou": list(self.iou),
            "boundary_dilation_ratio": DILATION_RATIO,
            "boundary_rule": BOUNDARY_RULE,
        }


def boundary_confusion(labels: LabelMap, predictions: LabelMap, num_classes: int) -> Confusion:
    """Count the pixels of the bands of one image: (num_classes + 1, num_classes + 1).

    Entry (l, p) counts the pixels in the band of class l of the labels and in the band of class p of the
    predictions; the last row and column hold pixels in no band. Matrices of several images add up.

    `labels` and `predictions` are (height, width) class indices; `num_classes` stands for no class, and must
    stand in both where a pixel is ignored. Raises `InputError` for more than 65,535 classes.
    """
    if num_classes > MAX_CLASSES:
        raise InputError(f"{num_classes} classes are more than boundary IoU can count ({MAX_CLASSES}); score fewer")
    label_bands = np.where(band_of(labels, num_classes), labels, num_classes)
    prediction_bands = np.where(band_of(predictions, num_classes), predictions, num_classes)
    return confusion_matrix(label_bands, prediction_bands, num_classes + 1, num_classes + 1, ignore_index=-1)


def boundary_scores(confusion: Confusion) -> BoundaryScores:
    """Return the boundary IoU of each class from the sum of `boundary_confusion` over images.

    Equation 2 of Cheng et al., CVPR 2021, with sums over images: `sum |G_d n P_d| / sum |G_d u P_d|`, where G_d
    and P_d are the bands of the class in labels and predictions (the pixels of the class within distance d of its
    contour). `confusion` is (num_classes + 1, num_classes + 1); some pixel lies in a band.
    """
    both = np.diagonal(confusion)[:-1]
    union = confusion.sum(axis=1)[:-1] + confusion.sum(axis=0)[:-1] - both
    iou = tuple(float(b / u) if u > 0 else None for b, u in zip(both, union, strict=True))
    return BoundaryScores(float(np.mean([value for value in iou if value is not None])), iou)


def band_of(values: LabelMap, no_class: int) -> MaskArray:
    """Return which pixels of a label map (height, width) lie in the band of their own class.

    They are those with a pixel of another value, or the outside of the image, at a chessboard distance of at most
    `band_width`: what eroding the mask of each class with a 3 x 3 square, d times, takes away. Pixels of
    `no_class`, which is above all classes and at most 65535, are in no band.
    """
    width = band_width(*values.shape)
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    image = values.astype(np.uint16)
    # One highest and one lowest value around each pixel serve all classes: both are its own where no other is near.
    highest = cv2.dilate(image, square, borderType=cv2.BORDER_CONSTANT, borderValue=float(no_class))
    lowest = cv2.erode(image, square, borderType=cv2.BORDER_CONSTANT, borderValue=float(no_class))
    is_near: NDArray[np.bool_] = (highest != image) | (lowest != image)
    return is_near & (values != no_class)


def band_width(height: int, width: int) -> int:
    """Return the distance d in pixels: 2 % of the diagonal, rounded (halves to even), at least 1."""
    return max(1, round(DILATION_RATIO * math.hypot(height, width)))
