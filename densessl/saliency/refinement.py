"""From a coarse soft map to a better one: colour models with a graph cut, and the guided filter."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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


def refine_by_guided_filter(image: ImageArray, soft: FloatMap) -> FloatMap:
    """Return `soft` (height, width) smoothed along the edges of the image; windows of 5 % of its longer side."""
    return guided_filter(image, soft, radius_px=max(1, round(0.025 * max(soft.shape))), smoothness=1e-3)


def guided_filter(guide: ImageArray, values: FloatMap, radius_px: int, smoothness: float) -> FloatMap:
    """Return `values` (height, width) filtered so that its edges follow those of the colour image `guide`.

    In every window the output is a linear function of the guide, `q = a . I + b`, fitted by ridge regression with
    weight `smoothness` (in squared units of a 0-1 image); overlapping windows are averaged (He, Sun, Tang, "Guided
    image filtering", TPAMI 2013, equations 19-21). Windows are squares of side `2 radius_px + 1`, reflected at the
    image's edge.
    """
    side = (2 * radius_px + 1, 2 * radius_px + 1)

    def average(array: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(array, side, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    image = guide.astype(np.float32) / 255
    height, width = values.shape
    mean_image, mean_values = average(image), average(values)
    cross = average(image * values[..., None]) - mean_image * mean_values[..., None]  # (height, width, 3)
    products = (image[..., :, None] * image[..., None, :]).reshape(height, width, 9)
    outer = (mean_image[..., :, None] * mean_image[..., None, :]).reshape(height, width, 9)
    covariance = np.dstack([average(products[..., k : k + 3]) for k in (0, 3, 6)]) - outer
    slope = _solve_symmetric(covariance, cross, smoothness)
    offset = mean_values - (slope * mean_image).sum(axis=2)
    filtered = (average(slope) * image).sum(axis=2) + average(offset)
    return np.asarray(np.clip(filtered, 0, 1), dtype=np.float32)


def _solve_symmetric(
    covariance: NDArray[np.float32], right_side: NDArray[np.float32], ridge: float
) -> NDArray[np.float32]:
    """Solve `(C + ridge I) a = r` at every pixel by Cramer's rule; C (height, width, 9), r (height, width, 3)."""
    rr, rg, rb, _, gg, gb, _, _, bb = np.moveaxis(covariance, 2, 0)
    rr, gg, bb = rr + ridge, gg + ridge, bb + ridge
    minor_rr, minor_rg, minor_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    minor_gg, minor_gb, minor_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * minor_rr + rg * minor_rg + rb * minor_rb
    r, g, b = np.moveaxis(right_side, 2, 0)
    solution = [
        minor_rr * r + minor_rg * g + minor_rb * b,
        minor_rg * r + minor_gg * g + minor_gb * b,
        minor_rb * r + minor_gb * g + minor_bb * b,
    ]
    return np.stack(solution, axis=2) / determinant[..., None]
