"""Arranges the objects of a synthetic scene: which class, which outline, where, and what hides what.

Lengths are in units of the image's long side; `extent` is the image's (width, height) in them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.synthetic_shapes import Outline, random_outline
from densessl.structures import MaskArray

OBJECT_CLASSES = (
    ("fish", "scales"),
    ("star", "rings"),
    ("eel", "stripes"),
    ("crate", "checks"),
    ("beetle", "dots"),
    ("cross", "zigzag"),
)
"""Outline and pattern of class 1, 2, ...; class 0 is the background."""

MAIN_AREA = (0.12, 0.43)  # visible share of the image; rounding to pixels then stays within 0.08-0.45
FURTHER_AREA = (0.025, 0.11)
NUM_FURTHER_WEIGHTS = (0.6, 0.28, 0.12)  # no, one, two further objects
OTHER_CLASS_SHARE = 0.25
SKETCH_PX = 128  # long side of the small rasters that placing is decided on
NUM_TRIES = 40


@dataclass(frozen=True)
class PlacedObject:
    """An object at its place: its class, its outline in the image, its middle and its size."""

    class_index: int
    outline: Outline  # in units of the long side
    centre: NDArray[np.float64]  # (x, y)
    length: float  # square root of the area


def arrange_objects(
    class_index: int, extent: NDArray[np.float64], generator: np.random.Generator
) -> tuple[list[PlacedObject], list[int]]:
    """Place the objects of a scene, main object first, and return them with their order from back to front.

    The visible part of the main object covers `MAIN_AREA` of the image.
    """
    main, main_mask = _place_main(class_index, extent, generator)
    objects, order = [main], [0]
    for _ in range(int(generator.choice(3, p=NUM_FURTHER_WEIGHTS))):
        further_class = class_index
        if generator.random() < OTHER_CLASS_SHARE:
            further_class = 1 + int(generator.integers(len(OBJECT_CLASSES)))
        is_in_front = bool(generator.random() < 0.35)
        placed = _place_further(further_class, main_mask, is_in_front, objects, extent, generator)
        if placed is None:
            continue
        objects.append(placed)
        order = [*order, len(objects) - 1] if is_in_front else [len(objects) - 1, *order]
        if is_in_front:
            main_mask &= ~_sketch(placed.outline, extent)
    return objects, order


def rasterise(outline: Outline, shape: tuple[int, int], long_side_px: int) -> MaskArray:
    """Fill an outline; the pixel with index k covers the coordinates k to k + 1."""
    mask = np.zeros(shape, dtype=np.uint8)
    corners = np.round((outline * long_side_px - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 1, lineType=cv2.LINE_8, shift=4)
    return mask.astype(bool)


def _place_main(
    class_index: int, extent: NDArray[np.float64], generator: np.random.Generator
) -> tuple[PlacedObject, MaskArray]:
    for attempt in range(NUM_TRIES):
        share = generator.uniform(0.11, 0.4) if attempt < NUM_TRIES - 1 else 0.12
        spread = 0.5 if attempt < NUM_TRIES - 1 else 0.0
        placed = _place(class_index, share, spread, extent, generator)
        mask = _sketch(placed.outline, extent)
        visible = mask.mean()
        if MAIN_AREA[0] <= visible <= MAIN_AREA[1] and visible >= 0.93 * share:
            break
    return placed, mask  # the last attempt is small and centred, so that it fits


def _place_further(
    class_index: int,
    main_mask: MaskArray,
    is_in_front: bool,
    others: list[PlacedObject],
    extent: NDArray[np.float64],
    generator: np.random.Generator,
) -> PlacedObject | None:
    """Find a place where the object shows and leaves the main one visible; `None` without room."""
    occupied = np.logical_or.reduce([main_mask, *(_sketch(other.outline, extent) for other in others[1:])])
    for _ in range(NUM_TRIES):
        share = generator.uniform(*FURTHER_AREA)
        placed = _place(class_index, share, 0.9, extent, generator)
        mask = _sketch(placed.outline, extent)
        hidden = (mask & occupied).mean()
        is_shown = mask.mean() >= 0.7 * share and (is_in_front or hidden <= 0.4 * share)
        left = (main_mask & ~mask) if is_in_front else main_mask
        covers_little = hidden <= 0.6 * share and left.sum() >= 0.75 * main_mask.sum()
        if is_shown and (not is_in_front or covers_little) and left.mean() >= MAIN_AREA[0]:
            return placed
    return None


def _place(
    class_index: int,
    area_share: float,
    spread: float,
    extent: NDArray[np.float64],
    generator: np.random.Generator,
) -> PlacedObject:
    length = float(np.sqrt(area_share * extent.prod()))
    outline = random_outline(OBJECT_CLASSES[class_index - 1][0], generator) * length
    centre = extent * (0.5 + spread * generator.uniform(-0.5, 0.5, size=2))
    return PlacedObject(class_index, outline + centre, centre, length)


def _sketch(outline: Outline, extent: NDArray[np.float64]) -> MaskArray:
    width, height = np.round(extent * SKETCH_PX).astype(int)
    return rasterise(outline, (int(height), int(width)), SKETCH_PX)
