"""Renders a synthetic scene, objects of known class on a cluttered background, with its exact label maps."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.synthetic_painting import develop, paint_objects
from densessl.data.synthetic_placement import OBJECT_CLASSES, PlacedObject, arrange_objects, rasterise
from densessl.data.synthetic_textures import random_background
from densessl.errors import InputError
from densessl.structures import IGNORE, ImageArray, InstanceMap, LabelMap, MaskArray

NON_SQUARE_SHARE = 1 / 3


@dataclass(frozen=True)
class Scene:
    """A rendered picture, its class per pixel and its object per pixel; `IGNORE` along object borders."""

    image: ImageArray
    classes: LabelMap
    instances: InstanceMap


def render_scene(class_index: int, size_px: int, generator: np.random.Generator) -> Scene:
    """Render one scene whose main object is of class `class_index` (1 to len(OBJECT_CLASSES)).

    The main object is instance 1 and covers 8-45 % of the image; up to two further objects, mostly of its
    class, lie in front of or behind it. A third of the scenes have a short side of 3/4 `size_px`, half of
    those upright. Raises `InputError` for a class that there is not.
    """
    if not 1 <= class_index <= len(OBJECT_CLASSES):
        raise InputError(
            f"class_index is {class_index}, but the objects are of class "
            f"1-{len(OBJECT_CLASSES)} (0 is background); pass one of these"
        )
    height, width = image_shape(size_px, generator)
    extent = np.array([width, height]) / size_px
    objects, order = arrange_objects(class_index, extent, generator)
    sampling = 2 if size_px <= 1024 else 1
    canvas_shape = (height * sampling, width * sampling)
    canvas = random_background(canvas_shape, generator)
    canvas_masks = [rasterise(placed.outline, canvas_shape, size_px * sampling) for placed in objects]
    paint_objects(canvas, objects, canvas_masks, order, generator)
    classes, instances = _labels([shrink(mask, (height, width)) for mask in canvas_masks], objects, order)
    return Scene(develop(canvas, (height, width), generator), classes, instances)


def border_width_px(size_px: int) -> int:
    """Return how wide the ignored border is: 1 % of the long side (5 px at 500, as in VOC), at least 1 px."""
    return max(1, round(size_px / 100))


def image_shape(size_px: int, generator: np.random.Generator) -> tuple[int, int]:
    short = round(0.75 * size_px)
    is_non_square, is_upright = generator.random(2) < (NON_SQUARE_SHARE, 0.5)
    if not is_non_square:
        return size_px, size_px
    return (size_px, short) if is_upright else (short, size_px)


def shrink(mask: MaskArray, shape: tuple[int, int]) -> MaskArray:
    """Reduce a canvas mask to the image: a pixel belongs to the object that covers at least half of it."""
    covered = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return covered >= 0.5


def _labels(masks: list[MaskArray], objects: list[PlacedObject], order: list[int]) -> tuple[LabelMap, InstanceMap]:
    """Stack the masks from back to front; a border around what shows of each becomes `IGNORE`."""
    instances = np.zeros(masks[0].shape, dtype=np.int64)
    for index in order:
        instances[masks[index]] = index + 1
    class_of_instance = np.array([0, *(placed.class_index for placed in objects)])
    classes = class_of_instance[instances]
    is_border = np.zeros(instances.shape, dtype=bool)
    width_px = border_width_px(max(instances.shape))
    inner, outer = width_px // 2, width_px - width_px // 2
    for index in order:
        visible = (instances == index + 1).astype(np.uint8)
        is_border |= (cv2.dilate(visible, _disc(outer)) > 0) & ~(cv2.erode(visible, _disc(inner)) > 0)
    classes[is_border] = IGNORE
    instances[is_border] = IGNORE
    return classes, instances


def _disc(radius_px: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
