"""Minimum barrier saliency in full (MB+): barrier distance, contrast to the image's border strips, post-processing.

Source: Zhang, Sclaroff, Lin, Shen, Price, Mech, "Minimum barrier salient object detection at 80 FPS", ICCV 2015,
section 4. Constants are the paper's; where it gives none, those of the authors' published program, as said beside them.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.barrier_distance import barrier_distance
from densessl.saliency.colour import FloatMap, LabImage, shrink, to_lab
from densessl.structures import ImageArray

WORKING_SIZE_PX = 300
"""Long side of the copy that is worked on."""
NUM_PASSES = 3
"""Passes of four sweeps each; on small grey photographs as near to the exact distance as the paper's three scans."""
STRIP_SHARE = 0.1
"""Width of the border strips as a fraction of the image's height (upper, lower) and width (left, right)."""
COVARIANCE_RIDGE = 50.0
"""Added to the variances of a strip's colours, in squared levels; the published program's."""
SMOOTHING_PX = 50.0
"""Width of the smoothing window, alpha, where the mean of the map is 1, at the working size."""
MIN_SMOOTHING_PX = 3
"""The published program's."""
STEEPNESS = 10.0
"""Slope b of the sigmoid that enhances contrast."""


def mb_plus(image: ImageArray) -> FloatMap:
    """Return the MB+ map (height, width), in (0, 1), of a uint8 RGB image, at the size of the working copy.

    `B + U`, the barrier distance B to the image's edge and the contrast U to the border strips, each scaled to a
    maximum of 1, then `post_process`. Colours are Lab in 0-255 levels, as in the published program. Deviations: the
    sweeps of `barrier_distance` in place of raster scans; small images are not enlarged; artificial frames are not
    searched for.
    """
    levels = to_lab(shrink(image, WORKING_SIZE_PX)) * np.array([2.55, 1, 1], dtype=np.float32)
    combined = scale_to_one(barrier_distance(levels, NUM_PASSES)) + boundary_contrast(levels)
    return post_process(scale_to_one(combined))


def boundary_contrast(levels: LabImage) -> FloatMap:
    """Return how the colours differ from those along the image's edge, (height, width), in [0, 1].

    `sum_k U_k - max_k U_k`, scaled to a maximum of 1, over the four border strips k (equations 7 and 8); U_k is
    `strip_contrast`, scaled likewise. Leaving out the largest forgives an object that fills one strip.
    """
    height, width = levels.shape[:2]
    rows, columns = max(1, round(STRIP_SHARE * height)), max(1, round(STRIP_SHARE * width))
    strips = levels[:rows], levels[-rows:], levels[:, :columns], levels[:, -columns:]
    contrasts = np.stack([scale_to_one(strip_contrast(levels, strip)) for strip in strips])
    return scale_to_one(contrasts.sum(axis=0) - contrasts.max(axis=0))


def strip_contrast(levels: LabImage, strip: LabImage) -> FloatMap:
    """Return the Mahalanobis distance of each pixel's colour to the colours of a strip, (height, width).

    `sqrt((c - m) (Q + ridge I)^-1 (c - m)^T)` with m the mean and Q the covariance of the strip's colours (equation 7;
    the ridge is `COVARIANCE_RIDGE`): the distance between whitened colours.
    """
    colours = strip.reshape(-1, 3).astype(np.float64)
    mean = colours.mean(axis=0)
    covariance = np.cov(colours.T, bias=True) + COVARIANCE_RIDGE * np.eye(3)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    return np.linalg.norm((levels - mean) @ whitening, axis=2).astype(np.float32)


def post_process(saliency: FloatMap) -> FloatMap:
    """Return a map (height, width), with a maximum of 1, smoothed, centred and contrast-enhanced, in (0, 1).

    Smoothing by `smooth_by_reconstruction` in a window of `alpha sqrt(mean)` pixels (equation 9), so that small
    objects get a small one; the product with `centredness` (equation 10), scaled to a maximum of 1; and
    `1 / (1 + exp(-b (s - 1/2)))` (equation 11). The window is made odd, and in images smaller than the working size
    it shrinks with them.
    """
    height, width = saliency.shape
    alpha = SMOOTHING_PX * max(height, width) / WORKING_SIZE_PX
    window_px = max(MIN_SMOOTHING_PX, 2 * int(alpha * float(saliency.mean()) ** 0.5 / 2) + 1)
    smooth = smooth_by_reconstruction(saliency, window_px)
    centred = scale_to_one(smooth * centredness(height, width))
    return np.asarray(1 / (1 + np.exp(-STEEPNESS * (centred - 0.5))), dtype=np.float32)


def smooth_by_reconstruction(values: FloatMap, window_px: int) -> FloatMap:
    """Return a map (height, width) without bright, then without dark parts narrower than a square window.

    Reconstruction by dilation from the eroded map, then by erosion from the dilated one: what remains keeps its
    outline. `window_px` is odd.
    """
    window = np.ones((window_px, window_px), dtype=np.uint8)
    opened = reconstruct(np.asarray(cv2.erode(values, window), dtype=np.float32), values)
    return -reconstruct(np.asarray(cv2.erode(-opened, window), dtype=np.float32), -opened)


def reconstruct(marker: FloatMap, ceiling: FloatMap) -> FloatMap:
    """Return the reconstruction by dilation of `ceiling` (height, width) from a `marker` that is nowhere above it.

    The marker, dilated by 3 x 3 pixels and cut off at the ceiling until nothing changes (Vincent, "Morphological
    grayscale reconstruction in image analysis", IEEE TIP 1993).
    """
    neighbours = np.ones((3, 3), dtype=np.uint8)
    while True:
        grown = np.minimum(cv2.dilate(marker, neighbours), ceiling)
        if np.array_equal(grown, marker):
            return np.asarray(grown, dtype=np.float32)
        marker = grown


def centredness(height: int, width: int) -> FloatMap:
    """Return one minus the distance to the middle over that of the corners, (height, width), in [0, 1]."""
    down, right = np.arange(height) + 0.5 - height / 2, np.arange(width) + 0.5 - width / 2
    distance = np.hypot(down[:, None], right[None])
    return np.asarray(1 - distance / np.hypot(height / 2, width / 2), dtype=np.float32)


def scale_to_one(values: NDArray[np.float32], min_peak: float = 1e-3) -> FloatMap:
    """Return a map (height, width) of values from 0 divided by its maximum; zeros where that is below `min_peak`."""
    peak = values.max()
    return values / peak if peak >= min_peak else np.zeros_like(values)
