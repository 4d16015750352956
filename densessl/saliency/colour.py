"""Working copies of a photograph (a small size, CIE Lab colours) and the scaling of maps."""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.structures import ImageArray

FloatMap = NDArray[np.float32]  # (height, width)
LabImage = NDArray[np.float32]  # (height, width, 3): L in [0, 100], a and b about [-110, 110]
RegionValues = NDArray[np.float64]  # (num_regions,)
Values = TypeVar("Values", bound=NDArray[Any])


def shrink(image: ImageArray, long_side_px: int) -> ImageArray:
    """Return the image (height, width, 3) with its longer side at most `long_side_px`; never enlarged."""
    height, width = image.shape[:2]
    scale = long_side_px / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def to_lab(image: ImageArray) -> LabImage:
    """Return a uint8 RGB image (height, width, 3) in CIE Lab (D65), float32."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def resize_map(values: FloatMap, height: int, width: int) -> FloatMap:
    """Return a map (any height, any width) resized bilinearly to (height, width)."""
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def stretch(values: Values, min_range: float = 1e-3) -> Values:
    """Return `(values - min) / (max - min)`, in [0, 1]; zeros where the range is below `min_range`.

    `min_range` keeps rounding noise of a plain image from being stretched into structure.
    """
    low = values.min()
    spread = values.max() - low
    if spread < min_range:
        return np.zeros_like(values)
    return (values - low) / spread


def balance(values: FloatMap, above: float = 0.0) -> FloatMap:
    """Return a map (height, width) scaled to [0, 1] so that Otsu's threshold of it (IEEE TSMC 1979) becomes 0.5.

    `above`: how far above Otsu's threshold, in units of `values`, that 0.5 lies; at most halfway to the maximum.
    """
    stretched = stretch(values)
    threshold, _ = cv2.threshold(np.rint(stretched * 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    middle = (threshold + 0.5) / 255
    if above > 0:
        middle += min(above / max(float(np.ptp(values)), 1e-9), (1 - middle) / 2)
    return np.interp(stretched, [0, middle, 1], [0, 0.5, 1]).astype(np.float32)
