"""How well a promptable model gives a mask back for clicks inside it: what it learned from all masks says of each.

Of masks that nobody checked, those are most often wrong that a model taught by all of them does not give back: networks
learn what examples share before they learn the errors of single ones (Arpit et al., arXiv:1706.05394), so that their
own answers tell which labels to trust (Han et al., arXiv:1804.06872).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.promptable.predictor import Predictor
from densessl.structures import MaskArray

_DEPTH = 1 / 3
"""Clicks lie at least so far from the mask's edge, as a share of the distance of its deepest pixel."""


def click_agreement(
    predictor: Predictor, masks: Sequence[MaskArray], num_clicks: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return the mean IoU (num_masks,) of each mask with what the model makes of clicks inside it, one at a time.

    The model's answer is its mask of the highest predicted IoU.

    Args:
        predictor: the image is set.
        masks: bool (height, width) of the image, none of them empty.
        num_clicks: at least 1, of each mask.
        generator: of the clicks.
    """
    if not masks:
        return np.zeros(0)
    clicks = np.concatenate([inner_points(mask, num_clicks, generator) for mask in masks])
    labels = np.ones((len(clicks), 1), dtype=np.int64)
    found = predictor.predict(clicks[:, None].astype(np.float64), labels, select="best").masks[:, 0]
    answers = found.reshape(len(masks), num_clicks, *found.shape[1:])
    return np.array([np.mean([_iou(answer, mask) for answer in own]) for own, mask in zip(answers, masks, strict=True)])


def inner_points(mask: MaskArray, num_points: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw pixels (num_points, 2), `(x, y)`, of a mask that lie away from its edge."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    pixels = np.argwhere(depth >= depth.max() * _DEPTH)
    return pixels[generator.integers(len(pixels), size=num_points)][:, ::-1].astype(np.int64)


def _iou(first: MaskArray, second: MaskArray) -> float:
    either = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / either if either else 1.0
