"""A threshold for the maps of a whole set of images, found without labels: outlines should follow edges.

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


def outline_threshold(pairs: Iterable[tuple[ImageArray, FloatMap]]) -> float:
    """Return the one threshold, of `THRESHOLDS`, at which the outlines of all maps follow the most edges.

    Args:
        pairs: images, uint8 RGB (height, width, 3), and their foreground logits (height, width), one at a time.
    """
    total = np.zeros(len(THRESHOLDS))
    for image, logits in pairs:
        total += outline_contrasts(image, logits)
    return THRESHOLDS[int(total.argmax())]


def outline_contrasts(image: ImageArray, logits: FloatMap) -> NDArray[np.float64]:
    """Return for each of `THRESHOLDS` how much edge the outline of `logits > threshold` follows.

    `sum_p (g_p / mean(g) - 1) / sqrt(pixels of the image)` over the pixels p of the outline, with g the gradient of the
    slightly blurred Lab colours: 0 for an outline drawn at random, and for a mask without one (no foreground, or
    nothing else). A sum, because the mean would favour few pixels on the strongest texture over a whole object. The
    outline is 5 pixels wide; the frame of the image is none. A criterion of our own, measured in docs/decisions.md.
    """
    strength = edge_strength(image)
    average = strength.mean()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (OUTLINE_WIDTH_PX, OUTLINE_WIDTH_PX))
    contrasts = np.zeros(len(THRESHOLDS))
    if average == 0:
        return contrasts
    for index, threshold in enumerate(THRESHOLDS):
        mask = (logits > threshold).astype(np.uint8)
        outline = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
        contrasts[index] = (strength[outline] / average - 1).sum() / strength.size**0.5
    return contrasts


def edge_strength(image: ImageArray) -> FloatMap:
    """Return the gradient (height, width) of the Lab colours of a uint8 RGB image, blurred by one pixel.

    By Sobel's kernel, whose unit is 1/8 Lab unit a pixel.
    """
    lab = cv2.GaussianBlur(to_lab(image), (0, 0), 1)
    across, down = cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)
    return np.asarray(np.sqrt((across**2 + down**2).sum(axis=2)), dtype=np.float32)
