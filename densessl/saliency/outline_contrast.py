"""A threshold for the maps of a whole set of images, found without labels: outlines should lie on strong edges.

Of a single image the criterion is a poor judge, since some texture always has edges stronger than those of the object.
Over hundreds of images, which share one threshold, that averages out (docs/decisions.md has the measurements).
"""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.colour import FloatMap, to_lab
from densessl.structures import ImageArray

THRESHOLDS = tuple(sorted(np.arange(-3, 5.01, 0.25).tolist(), key=abs))
"""Logits that are compared, from 0 outwards: of equally good ones the nearest to 0 is taken."""
OUTLINE_WIDTH_PX = 5


def sharpest_threshold(pairs: Iterable[tuple[ImageArray, FloatMap]]) -> float:
    """Return the one threshold, of `THRESHOLDS`, at which the outlines of all maps together have most contrast.

    Args:
        pairs: images, uint8 RGB (height, width, 3), and their foreground logits (height, width), one at a time.
    """
    total = np.zeros(len(THRESHOLDS))
    for image, logits in pairs:
        total += outline_contrasts(image, logits)
    return THRESHOLDS[int(total.argmax())]


def outline_contrasts(image: ImageArray, logits: FloatMap) -> NDArray[np.float64]:
    """Return for each of `THRESHOLDS` how strong the edges along the outline of `logits > threshold` are.

    The gradient of the slightly blurred Lab colours, averaged over the outline and divided by its average over the
    image: 1 for an outline drawn at random, and for a mask without one (no foreground, or nothing else). The frame of
    the image is no outline.
    """
    strength = edge_strength(image)
    average = strength.mean()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (OUTLINE_WIDTH_PX, OUTLINE_WIDTH_PX))
    contrasts = np.ones(len(THRESHOLDS))
    if average == 0:
        return contrasts
    for index, threshold in enumerate(THRESHOLDS):
        mask = (logits > threshold).astype(np.uint8)
        outline = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
        if outline.any():
            contrasts[index] = strength[outline].mean() / average
    return contrasts


def edge_strength(image: ImageArray) -> FloatMap:
    """Return the size of the gradient (height, width) of an image's Lab colours, blurred by one pixel."""
    lab = cv2.GaussianBlur(to_lab(image), (0, 0), 1)
    across, down = cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)
    return np.asarray(np.sqrt((across**2 + down**2).sum(axis=2)), dtype=np.float32)
