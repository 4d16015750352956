"""COCO segmentations (polygons, plain or compressed run lengths) as masks, checked before C code runs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from densessl.structures import MaskArray


class SegmentError(ValueError):
    """Raised for a segmentation that is malformed; the message says how, the caller says where."""


def segment_to_mask(segmentation: Any, height: int, width: int) -> MaskArray:
    """Return the bool mask (height, width) of one COCO `segmentation` entry, rasterised by pycocotools.

    A list holds polygons `[x0, y0, x1, y1, ...]` in pixels whose union is the mask; a dictionary holds run
    lengths `{"size": [height, width], "counts": [...] or compressed string}`, column by column, background
    first. Raises `SegmentError`; lengths that do not add up to the image are refused, because pycocotools
    would return whatever the memory held.
    """
    if isinstance(segmentation, list):
        polygons = [_checked_polygon(polygon, height, width) for polygon in segmentation]
        if not polygons:
            raise SegmentError("an empty list of polygons")
        runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    elif isinstance(segmentation, dict):
        runs = _checked_runs(segmentation, height, width)
    else:
        raise SegmentError(f"a {type(segmentation).__name__} instead of polygons or run lengths")
    mask: NDArray[np.uint8] = coco_mask.decode(runs)
    return mask.astype(np.bool_)


def _checked_polygon(polygon: Any, height: int, width: int) -> list[float]:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        length = len(polygon) if isinstance(polygon, list) else "no"
        raise SegmentError(f"a polygon of {length} numbers; it takes an even count of at least 6")
    if not all(isinstance(number, int | float) for number in polygon):
        raise SegmentError("a polygon with something else than numbers")
    limit = 2.0 * max(height, width)
    if not all(abs(number) <= limit for number in polygon):  # also false for NaN
        raise SegmentError(f"a polygon that leaves the {height} x {width} image by more than its own size")
    return [float(number) for number in polygon]


def _checked_runs(runs: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    if runs.get("size") != [height, width]:
        raise SegmentError(f"run lengths for size {runs.get('size')} in an image of {[height, width]}")
    counts = runs.get("counts")
    if isinstance(counts, str):
        lengths = _decompress_counts(counts)
    elif isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        lengths = counts
    else:
        raise SegmentError("run lengths whose counts are neither a string nor a list of integers")
    if any(length < 0 for length in lengths) or sum(lengths) != height * width:
        raise SegmentError(f"run lengths that add up to {sum(lengths)} instead of {height * width} pixels")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode("ascii")}
    encoded: dict[str, Any] = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return encoded


def _decompress_counts(text: str) -> list[int]:
    """Return the run lengths in COCO's string: 5 bits a character, signed, later ones relative to two
    before."""
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise SegmentError(f"compressed run lengths with the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise SegmentError("compressed run lengths that end in the middle of a number")
    return lengths
