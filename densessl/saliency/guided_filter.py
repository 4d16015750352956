"""The guided filter: a map whose edges follow those of a colour image."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.colour import FloatMap
from densessl.structures import ImageArray


def refine_by_guided_filter(image: ImageArray, soft: FloatMap) -> FloatMap:
    """Return `soft` (height, width) smoothed along the edges of the image; windows of 5 % of its longer side."""
    return guided_filter(image, soft, radius_px=max(1, round(0.025 * max(soft.shape))), smoothness=1e-3)


def guided_filter(guide: ImageArray, values: FloatMap, radius_px: int, smoothness: float) -> FloatMap:
    """Return `values` (height, width) filtered so that its edges follow those of the colour image `guide`.

    At every pixel the linear function of the colours that `fit_colours` finds there, clipped to [0, 1].
    """
    slope, offset = fit_colours(guide, values, radius_px, smoothness)
    filtered = (slope * (guide.astype(np.float32) / 255)).sum(axis=2) + offset
    return np.asarray(np.clip(filtered, 0, 1), dtype=np.float32)


def fit_colours(
    image: ImageArray, values: FloatMap, radius_px: int, smoothness: float
) -> tuple[NDArray[np.float32], FloatMap]:
    """Return slopes (height, width, 3) and offsets (height, width) of the linear functions of the guided filter.

    `a . I + b` fits `values` (height, width) to the colours I, scaled to [0, 1], in a square window of side
    `2 radius_px + 1` by ridge regression with weight `smoothness`, averaged over all windows that hold a pixel (He,
    Sun, Tang, "Guided image filtering", TPAMI 2013, equations 19-21); the image is reflected at its edge.
    """
    side = (2 * radius_px + 1, 2 * radius_px + 1)

    def average(array: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(array, side, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    colours = image.astype(np.float32) / 255
    height, width = values.shape
    mean_colour, mean_value = average(colours), average(values)
    cross = average(colours * values[..., None]) - mean_colour * mean_value[..., None]
    products = (colours[..., :, None] * colours[..., None, :]).reshape(height, width, 9)
    outer = (mean_colour[..., :, None] * mean_colour[..., None, :]).reshape(height, width, 9)
    covariance = np.dstack([average(products[..., k : k + 3]) for k in (0, 3, 6)]) - outer
    slope = _solve_symmetric(covariance, cross, smoothness)
    offset = mean_value - (slope * mean_colour).sum(axis=2)
    return average(slope), average(offset)


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
