"""Where a mask is and how deep its pixels lie."""

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.structures import MaskArray


def object_box(mask: MaskArray) -> tuple[int, int, int, int]:
    """Return the box around a mask (height, width), not empty: `(x0, y0, x1, y1)` pixels, upper bound exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def depth(region: MaskArray) -> NDArray[np.float32]:
    """Return the distance in pixels (height, width) of each pixel of a region to what lies outside it, the image's edge
    included; 0 outside the region.
    """
    found = np.zeros(region.shape, dtype=np.float32)
    if region.any():
        x0, y0, x1, y1 = object_box(region)
        padded = np.pad(region[y0:y1, x0:x1], 1).astype(np.uint8)
        found[y0:y1, x0:x1] = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return found
