"""From a coarse soft map to a better one: colour models of foreground and background, and a graph cut."""

import cv2
import numpy as np

from densessl.saliency.colour import FloatMap, resize_map, shrink
from densessl.structures import ImageArray

CUT_SIZE_PX = 120
CUT_ROUNDS = 1
"""More rounds cost time; on rendered scenes five were no better than one."""
MIN_SEED_PX = 20


def refine_by_colour_models(image: ImageArray, soft: FloatMap) -> FloatMap:
    """Return the mean of `soft` (height, width) and of the GrabCut segmentation that it seeds, in [0, 1].

    GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004; OpenCV's implementation) fits colour mixtures to foreground
    and background and cuts the pixel grid between them, here in a copy of the image of at most 120 pixels. Pixels
    start on their side of 0.5, and the surer half of each side is held fixed, which is what keeps the cut from
    sliding to the nearest strong edge. Where one side has fewer than 20 pixels no mixture can be fitted, and `soft`
    is returned as it is. Sets OpenCV's random seed, so that equal inputs give equal outputs.
    """
    small = shrink(image, CUT_SIZE_PX)
    seeds = resize_map(soft, small.shape[0], small.shape[1])
    is_foreground = seeds > 0.5
    if min(is_foreground.sum(), (~is_foreground).sum()) < MIN_SEED_PX:
        return soft
    states = np.where(is_foreground, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    states[seeds < np.median(seeds[~is_foreground])] = cv2.GC_BGD
    states[seeds > np.median(seeds[is_foreground])] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(small[..., ::-1])
    mixture = np.zeros((1, 65))  # five Gaussians of 13 numbers
    cv2.grabCut(bgr, states, None, mixture, mixture.copy(), CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    cut = ((states == cv2.GC_FGD) | (states == cv2.GC_PR_FGD)).astype(np.float32)
    height, width = soft.shape
    return np.asarray((soft + resize_map(cut, height, width)) / 2, dtype=np.float32)
