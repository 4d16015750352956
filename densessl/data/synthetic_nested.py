"""Renders scenes of nested objects: a body (whole) with a window (part) with a knob (subpart), each a mask of its own.

Lengths are in units of the image's long side, as in `densessl.data.synthetic_placement`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.synthetic_painting import develop
from densessl.data.synthetic_placement import rasterise
from densessl.data.synthetic_scenes import image_shape, shrink
from densessl.data.synthetic_shapes import Outline, random_outline
from densessl.data.synthetic_textures import Canvas, class_pattern, random_background, smooth_noise
from densessl.structures import ImageArray, MaskArray

LEVELS = ("whole", "part", "subpart")
"""What the masks of a scene are, from outside to inside."""

_SHAPES = (("crate", "beetle", "fish"), ("crate", "beetle", "cross", "star"), ("crate", "beetle", "star"))
_PATTERNS = ("scales", "rings", "stripes", "checks", "dots", "zigzag")
_WHOLE_AREA = (0.2, 0.42)  # of the image
_INNER_AREA = (0.28, 0.42)  # of the level around it
_SMALLEST_INNER_AREA = 0.18
_MARGIN = 0.012  # between the outlines of two levels
_LEAST_CONTRAST = 0.3  # distance in RGB between the colours of neighbouring levels
_SKETCH_PX = 256
_NUM_TRIES = 60


@dataclass(frozen=True)
class NestedScene:
    """A rendered picture and its masks in the order of `LEVELS`, bool (height, width), each within the one before."""

    image: ImageArray
    masks: tuple[MaskArray, MaskArray, MaskArray]


def render_nested_scene(size_px: int, generator: np.random.Generator) -> NestedScene:
    """Render one scene with one nested object.

    The whole covers about a fifth to two fifths of the image, each inner level about a third of the one around it.
    Levels differ in colour and pattern, drawn anew for each scene, so that a level is told by where it is alone. A
    third of the scenes have a short side of 3/4 `size_px`.
    """
    height, width = image_shape(size_px, generator)
    extent = np.array([width, height]) / size_px
    sampling = 2 if size_px <= 1024 else 1
    canvas_shape = (height * sampling, width * sampling)
    canvas = random_background(canvas_shape, generator)
    colour = canvas.mean((0, 1))
    masks: list[NDArray[np.bool_]] = []
    for outline in _nested_outlines(extent, generator):
        mask = rasterise(outline, canvas_shape, size_px * sampling)
        if masks:
            mask &= masks[-1]
        colour = _distinct_colour(colour, generator)
        _paint(canvas, mask, colour, generator)
        masks.append(mask)
    whole, part, subpart = (shrink(mask, (height, width)) for mask in masks)
    return NestedScene(develop(canvas, (height, width), generator), (whole, part, subpart))


def _nested_outlines(extent: NDArray[np.float64], generator: np.random.Generator) -> list[Outline]:
    """Draw a whole that lies within the image, a part within it, and a subpart within that; anew until all fit."""
    while True:
        width, height = np.round(extent * _SKETCH_PX).astype(int)
        room = np.ones((int(height), int(width)), dtype=bool)
        area = generator.uniform(*_WHOLE_AREA) * float(extent.prod())
        outlines: list[Outline] = []
        for shapes in _SHAPES:
            outline = _place_within(room, shapes, area, generator)
            if outline is None:
                break
            outlines.append(outline)
            room = rasterise(outline, room.shape, _SKETCH_PX)
            area *= generator.uniform(*_INNER_AREA)
        if len(outlines) == len(_SHAPES):
            return outlines


def _place_within(
    room: MaskArray, shapes: tuple[str, ...], area: float, generator: np.random.Generator
) -> Outline | None:
    """Find a place for an outline of this area that leaves a margin to the edge of the room; `None` without one."""
    margin_px = max(1, round(_MARGIN * _SKETCH_PX))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin_px + 1, 2 * margin_px + 1))
    inner = cv2.erode(np.pad(room, 1).astype(np.uint8), kernel)[1:-1, 1:-1] > 0
    rows, columns = np.nonzero(inner)
    smallest = area * _SMALLEST_INNER_AREA / _INNER_AREA[0]
    for attempt in range(_NUM_TRIES):
        tried = area + (smallest - area) * attempt / _NUM_TRIES
        outline = random_outline(str(generator.choice(shapes)), generator) * np.sqrt(tried)
        place = int(generator.integers(len(rows)))
        outline = outline + np.array([columns[place] + 0.5, rows[place] + 0.5]) / _SKETCH_PX
        is_inside = bool(((outline > 0) & (outline < np.array(room.shape[::-1]) / _SKETCH_PX)).all())
        if is_inside and not (rasterise(outline, room.shape, _SKETCH_PX) & ~inner).any():
            return outline
    return None


def _distinct_colour(outside: NDArray[np.floating], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw a colour that differs from the one outside."""
    while True:
        colour = generator.uniform(0.15, 0.85, size=3)
        if np.linalg.norm(colour - outside) >= _LEAST_CONTRAST:
            return colour


def _paint(canvas: Canvas, mask: MaskArray, colour: NDArray[np.float64], generator: np.random.Generator) -> None:
    """Paint a level in place: its colour, a pattern and slow changes of light."""
    shape = canvas.shape[:2]
    period = generator.uniform(0.05, 0.09) * max(shape)
    angle = generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / np.float32(period)
    u = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    v = np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x
    pattern = class_pattern(str(generator.choice(_PATTERNS)), u, v, generator) - 0.5
    contrast = generator.uniform(0.05, 0.16) * generator.choice([-1.0, 1.0]) + generator.normal(0, 0.03, size=3)
    light = 1 + np.float32(0.06) * smooth_noise(shape, 3, generator)
    painted = (colour + pattern[..., None] * contrast) * light[..., None]
    canvas[mask] = painted[mask].astype(np.float32)
