"""From a value for each cell of a feature grid to a soft map whose 0.5 is the method's own split."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.colour import FloatMap

JUST_BACKGROUND = 0.49
"""What foreground cells become that a method leaves out of its mask: undecided, on the background's side."""


def split_at(values: NDArray[Any], threshold: float) -> FloatMap:
    """Return values (height, width) scaled to [0, 1], each side linearly, so that `threshold` becomes 0.5.

    The smallest value becomes 0 and the largest 1, unless one side is empty. Cells are above 0.5 where their value is
    above the threshold.
    """
    offset = np.asarray(values, dtype=np.float64) - threshold
    tiny = np.finfo(np.float64).tiny
    scale = np.where(offset > 0, max(offset.max(), tiny), max(-offset.min(), tiny))
    return (0.5 + 0.5 * offset / scale).astype(np.float32)


def keep_part(soft: FloatMap, cell: int) -> FloatMap:
    """Return a map (height, width) with only the 4-connected part of its foreground that holds a cell.

    `cell` counts in reading order. Foreground cells of other parts become `JUST_BACKGROUND`.
    """
    foreground = soft > 0.5
    _, labels = cv2.connectedComponents(foreground.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    is_other = foreground & (labels != labels.flat[cell])
    return np.where(is_other, np.float32(JUST_BACKGROUND), soft)
