"""GrabCut from the prompts that promptable models get: the comparison that needs no training.

Rother, Kolmogorov and Blake, SIGGRAPH 2004, as OpenCV has it. From a box it starts as published. Clicks it takes as
certain within a small disc; around each foreground click a larger disc is its first guess of the foreground, and all
else its first guess of the background.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.evaluation.simulated_clicks import Click
from densessl.promptable.mask_refinement import cut_graph
from densessl.structures import ImageArray, MaskArray

ITERATIONS = 5
CERTAIN_SHARE = 0.01
"""Radius of the disc around a click that is certain, of the image's long side."""
GUESSED_SHARE = 0.1
"""Radius of the disc around a foreground click that is guessed to be foreground."""


def grabcut_box(image: ImageArray, box: tuple[int, int, int, int]) -> MaskArray:
    """Return the mask (height, width) that GrabCut finds within a box, `(x0, y0, x1, y1)`, of an RGB image.

    All pixels outside are certain background; where there are none GrabCut cannot start, and the box is the mask.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    mask = np.full((height, width), cv2.GC_BGD, dtype=np.uint8)
    mask[y0:y1, x0:x1] = cv2.GC_PR_FGD
    return _run(image, mask)


def grabcut_clicks(image: ImageArray, clicks: Sequence[Click]) -> MaskArray:
    """Return the mask (height, width) that GrabCut finds from clicks on an RGB image."""
    height, width = image.shape[:2]
    mask = np.full((height, width), cv2.GC_PR_BGD, dtype=np.uint8)
    long_side = max(height, width)
    guessed, certain = (max(1, round(share * long_side)) for share in (GUESSED_SHARE, CERTAIN_SHARE))
    for click in clicks:
        if click.is_foreground:
            cv2.circle(mask, (click.x, click.y), guessed, cv2.GC_PR_FGD, thickness=-1)
    for click in clicks:
        label = cv2.GC_FGD if click.is_foreground else cv2.GC_BGD
        cv2.circle(mask, (click.x, click.y), certain, label, thickness=-1)
    return _run(image, mask)


def _run(image: ImageArray, seeds: NDArray[np.uint8]) -> MaskArray:
    begun = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
    cut = cut_graph(image, seeds, ITERATIONS)
    return begun if cut is None else cut
