"""Whether the masks of an ambiguous click are the nested objects under it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from densessl.errors import InputError
from densessl.structures import MaskArray


def nested_match(masks: Sequence[MaskArray], objects: Sequence[MaskArray], threshold: float) -> NDArray[np.float64]:
    """Return the IoU of each object with the mask that is matched with it, each mask with one object at most.

    Of all matchings, the one in which most objects have an IoU above the threshold is taken, and of those the one of
    the highest sum.

    Args:
        masks: bool (height, width) each, at least as many as objects.
        objects: alike.
        threshold: in [0, 1).

    Raises:
        InputError: fewer masks than objects, or other sizes.
    """
    if len(masks) < len(objects):
        raise InputError(f"{len(objects)} objects cannot be matched one to one with {len(masks)} masks; give as many")
    iou = np.array([[pair_iou(mask, target) for mask in masks] for target in objects])
    gain = (iou > threshold) + iou / (len(objects) + 1)  # sums of the second stay below one
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return iou[rows, columns]


def pair_iou(first: MaskArray, second: MaskArray) -> float:
    """Return the IoU of two masks (height, width), 0 where both are empty."""
    if first.shape != second.shape:
        raise InputError(f"masks have shapes {first.shape} and {second.shape}; bring both to the image's size")
    either = int(np.count_nonzero(first | second))
    return np.count_nonzero(first & second) / either if either else 0.0
