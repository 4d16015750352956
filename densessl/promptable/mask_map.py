"""Overlapping masks as one map of numbered masks, in which each pixel belongs to one of them or to none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.promptable.mask_runs import MaskRuns

MAX_MAP_MASKS = 254
"""255 is void in maps of labels."""

_SEEN = 0.5  # a mask of which less is left would be a fragment, and no proposal


@dataclass(frozen=True)
class MapSettings:
    """Which masks the map of an image holds, for those who need each pixel in one mask (`pretrain`).

    Args:
        overlap: whose a pixel of several masks is: whole (the largest mask's) or part (the smallest's).
        min_area: masks smaller than this fraction of the image are not in the map.
        max_area: masks larger than this fraction are not in the map.
    """

    overlap: Literal["whole", "part"] = "whole"
    min_area: float = 0.001
    max_area: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.min_area < self.max_area <= 1:
            raise InputError(
                f"map.min_area {self.min_area} and map.max_area {self.max_area} are fractions of the image with "
                "0 <= min_area < max_area <= 1; 0.001 and 0.9 are usual"
            )


def mask_map(masks: Sequence[MaskRuns], size: tuple[int, int], settings: MapSettings) -> NDArray[np.uint16]:
    """Number masks in a map (height, width): 0 none, 1, 2, ... in the order of their claim, at most 254.

    The largest mask comes first, or the smallest; of equal ones the first. A mask that the earlier ones leave less
    than half of its pixels is left out.
    """
    height, width = size
    flat = np.zeros(height * width, dtype=np.uint16)  # column by column
    areas = np.array([mask.area_px for mask in masks], dtype=np.int64)
    fits = (areas >= max(1, settings.min_area * flat.size)) & (areas <= settings.max_area * flat.size)
    order = np.argsort(-areas if settings.overlap == "whole" else areas, kind="stable")
    number = 0
    for index in order[fits[order]].tolist():
        first, inside = _pixels(masks[index])
        part = flat[first : first + len(inside)]
        free = inside & (part == 0)
        if np.count_nonzero(free) < _SEEN * areas[index]:
            continue
        number += 1
        part[free] = number
        if number == MAX_MAP_MASKS:
            break
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _pixels(mask: MaskRuns) -> tuple[int, NDArray[np.bool_]]:
    """Return the position of the mask's first pixel in column-major order, and which of those from there are inside."""
    first = int(mask.starts[0])
    steps = np.zeros(int(mask.ends[-1]) - first + 1, dtype=np.int8)
    steps[mask.starts - first] = 1
    steps[mask.ends - first] -= 1
    return first, steps[:-1].cumsum(dtype=np.int8).astype(np.bool_)
