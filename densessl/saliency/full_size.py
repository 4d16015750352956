"""Large photographs: a reduced copy to work in, and the way back to full size along the photograph's edges."""

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.colour import FloatMap, shrink
from densessl.saliency.guided_filter import fit_colours
from densessl.structures import ImageArray

LARGE_PX = 960
"""Longer images are worked on in a copy: three times the 320 pixels of the finest copy the default estimator reads."""
REDUCED_PX = 500
"""Long side of the copy: that of the photographs most methods and refinements here were published on."""
RADIUS_PX = 4
"""Of the guided filter's windows, in pixels of the copy; 2, 4, 6 and 10 were compared on ten rendered scenes."""
SMOOTHNESS = 1e-3
"""Ridge of the guided filter, in squared units of a 0-1 image: that of the `guided_filter` refinement."""
BAND_PX = 250_000
"""Pixels computed at a time, which bounds the memory."""


def reduced_copy(image: ImageArray, min_size_px: int = 0) -> ImageArray:
    """Return the copy (height, width, 3) that a large image is worked on in; smaller images are returned themselves.

    A copy has a long side of `REDUCED_PX`, or of `min_size_px` where that is more.
    """
    if max(image.shape[:2]) <= LARGE_PX:
        return image
    return shrink(image, max(REDUCED_PX, min_size_px))


def enlarge_from_copy(image: ImageArray, copy: ImageArray, soft: FloatMap) -> FloatMap:
    """Return the map of a reduced copy at the size of the image (height, width), its edges those of the image.

    The fast guided filter (He, Sun, arXiv:1505.00996): in each window of the copy the map is fitted by a linear
    function of the colours (`fit_colours`); its coefficients, enlarged bilinearly, are applied to the colours of
    the image. So what is thinner than a pixel of the copy is found by its colour. Values are clipped to [0, 1]. A map
    that has the size of the image is returned as it is. What it costs is measured by benchmarks.large_photographs.
    """
    height, width = image.shape[:2]
    if soft.shape == (height, width):
        return soft
    slope, offset = fit_colours(copy, soft, RADIUS_PX, SMOOTHNESS)
    wide_slope = cv2.resize(slope / 255, (width, len(slope)), interpolation=cv2.INTER_LINEAR)
    wide_offset = cv2.resize(offset, (width, len(offset)), interpolation=cv2.INTER_LINEAR)
    position = np.clip((np.arange(height) + 0.5) * len(slope) / height - 0.5, 0, len(slope) - 1)
    result = np.empty((height, width), dtype=np.float32)
    rows = max(1, BAND_PX // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        weighted = _interpolate_rows(wide_slope, position[band]) * image[band]
        values = cv2.transform(weighted, np.ones((1, 3))).reshape(len(weighted), width)
        result[band] = np.clip(values + _interpolate_rows(wide_offset, position[band]), 0, 1)
    return result


def _interpolate_rows(values: NDArray[np.float32], position: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the rows of an array at fractional positions, (len(position), ...)."""
    above = position.astype(np.int64)
    below = np.minimum(above + 1, len(values) - 1)
    share = (position - above).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    first = values[above]
    return first + share * (values[below] - first)
