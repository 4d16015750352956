"""Paints the objects of a synthetic scene on its background: pattern, colour, shading, shadow, noise.

What tells the classes apart is outline and pattern alone: colours, contrast and lighting come from the same
distributions for every class, and a pattern is centred and scaled so that the object's mean colour and its
deviation do not depend on it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.synthetic_placement import OBJECT_CLASSES, PlacedObject
from densessl.data.synthetic_shapes import rotation
from densessl.data.synthetic_textures import Canvas, Field, class_pattern, smooth_noise
from densessl.structures import ImageArray, MaskArray

GREY = 0.5
SHADOW_PX = 128  # long side of the small raster that shadows are blurred on


def paint_objects(
    canvas: Canvas,
    objects: list[PlacedObject],
    masks: list[MaskArray],
    order: list[int],
    generator: np.random.Generator,
) -> None:
    """Paint shadows and objects onto `canvas` in place, from back to front under one light.

    masks: the whole of each object on the canvas, bool (height, width). order: indices, back first.
    """
    light_angle = generator.uniform(0, 2 * np.pi)
    light = np.array([np.cos(light_angle), np.sin(light_angle)])
    for index in order:
        placed, mask = objects[index], masks[index]
        canvas *= _shadow(mask, placed.length, light, generator)[..., None]
        rows, columns = _bounds(mask)
        part = mask[rows, columns]
        long_side_px = max(canvas.shape[:2])
        colours = _surface(placed, part, (rows.start, columns.start), long_side_px, generator)
        shading = _shading(part, light, generator)
        canvas[rows, columns][part] = (colours * shading[..., None])[part]
    height, width = canvas.shape[:2]
    ramp = np.add.outer(np.linspace(-0.5, 0.5, height) * light[1], np.linspace(-0.5, 0.5, width) * light[0])
    canvas *= (1 + generator.uniform(0, 0.25) * ramp)[..., None].astype(np.float32)


def develop(canvas: Canvas, shape: tuple[int, int], generator: np.random.Generator) -> ImageArray:
    """Reduce the canvas to an image of `shape` (height, width), with slight blur and sensor noise."""
    image = cv2.resize(canvas, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), generator.uniform(0.3, 0.004 * max(shape) + 0.35))
    noise = generator.standard_normal(image.shape, dtype=np.float32)
    image += np.float32(generator.uniform(0.008, 0.025)) * noise
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _bounds(mask: MaskArray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _surface(
    placed: PlacedObject,
    mask: MaskArray,
    corner: tuple[int, int],
    long_side_px: int,
    generator: np.random.Generator,
) -> Canvas:
    """Colour the object's pattern; over the mask its mean and deviation do not depend on the class."""
    pattern_name = OBJECT_CLASSES[placed.class_index - 1][1]
    period = float(np.clip(placed.length * generator.uniform(0.18, 0.27), 0.075, 0.115))
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(np.float32)
    x = (x + corner[1] + 0.5) / long_side_px - placed.centre[0]
    y = (y + corner[0] + 0.5) / long_side_px - placed.centre[1]
    turn = rotation(generator.uniform(0, 2 * np.pi)) / period
    offset = generator.uniform(0, 1, size=2) if pattern_name != "rings" else generator.uniform(-0.7, 0.7, size=2)
    warp = [generator.uniform(0, 0.12) * smooth_noise(mask.shape, 3, generator) for _ in range(2)]
    u = (turn[0, 0] * x + turn[0, 1] * y + offset[0] + warp[0]).astype(np.float32)
    v = (turn[1, 0] * x + turn[1, 1] * y + offset[1] + warp[1]).astype(np.float32)
    pattern = class_pattern(pattern_name, u, v, generator)
    inside = pattern[mask]
    centred = (pattern - inside.mean()) / max(float(inside.std()), 0.05)
    colour, contrast = _object_colours(generator)
    return (colour + centred[..., None] * contrast).astype(np.float32)


def _object_colours(
    generator: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a mean colour, close to grey for every object, and the colour of one deviation of the pattern.

    Objects of one class and of different classes alike have about the same mean colour, so that neither a class nor a
    single object is told by it; the two colours of a pattern differ strongly, along any direction that also changes
    the lightness.
    """
    colour = GREY + generator.normal(0, 0.04, size=3)
    return colour, generator.uniform(0.16, 0.24) + generator.normal(0, 0.04, size=3)


def _shading(mask: MaskArray, light: NDArray[np.float64], generator: np.random.Generator) -> Field:
    """Shade the object as a cushion lit from one side, with mean 1 over the mask."""
    height, width = mask.shape
    scale = 64 / max(mask.shape)
    small_size = (max(2, round(width * scale)), max(2, round(height * scale)))
    small = cv2.resize(mask.astype(np.uint8), small_size, interpolation=cv2.INTER_AREA)
    depth = cv2.distanceTransform(np.pad(small, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    cushion = cv2.GaussianBlur(np.sqrt(np.minimum(depth / 12, 1)), (0, 0), 3)
    slope_y, slope_x = np.gradient(cushion)
    strength = generator.uniform(1.5, 3.5)
    small_shading = 1 - strength * (slope_x * light[0] + slope_y * light[1])
    shading = np.clip(cv2.resize(small_shading, (width, height), interpolation=cv2.INTER_LINEAR), 0.6, 1.4)
    return (shading / shading[mask].mean()).astype(np.float32)


def _shadow(mask: MaskArray, length: float, light: NDArray[np.float64], generator: np.random.Generator) -> Field:
    """Return the share of light that reaches each pixel: less where the mask falls, moved off the light."""
    height, width = mask.shape
    scale = SHADOW_PX / max(mask.shape)
    small_size = (max(2, round(width * scale)), max(2, round(height * scale)))
    small = cv2.resize(mask.astype(np.float32), small_size, interpolation=cv2.INTER_AREA)
    reach = -light * length * generator.uniform(0.08, 0.2) * SHADOW_PX
    move = np.array([[1, 0, reach[0]], [0, 1, reach[1]]])
    moved = cv2.warpAffine(small, move, small_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    soft = cv2.GaussianBlur(moved, (0, 0), generator.uniform(1.5, 4))
    darkness = generator.uniform(0.25, 0.5)
    return 1 - np.float32(darkness) * cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
