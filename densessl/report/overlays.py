"""Masks and label maps drawn over photographs."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.label_maps import voc_palette
from densessl.report.contents import UNMATCHED
from densessl.structures import IGNORE, ImageArray, MaskArray

OUTLINE_COLOUR = (255, 176, 0)
HALO_COLOUR = (20, 20, 20)
DIMMED = 0.6
WASHED = 0.4
PAPER = 240
PAINT_OPACITY = 0.72
PLAIN_GREY = 150


def outline(mask: MaskArray, width_px: int = 2) -> MaskArray:
    """Return the pixels of the mask within `width_px` of a pixel outside it; the image's edge is no outside."""
    kernel = np.ones((3, 3), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, iterations=width_px)
    return mask & ~inner.astype(bool)


def luminance(photo: ImageArray) -> NDArray[np.float64]:
    """Return the brightness (height, width) of an RGB image, 0-255 (ITU-R BT.601 weights)."""
    return photo.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def spotlight(photo: ImageArray, mask: MaskArray, width_px: int = 2) -> ImageArray:
    """Draw the mask as an amber outline with a dark halo; outside it the photograph is grey and darker."""
    grey = np.repeat((luminance(photo) * DIMMED)[..., None], 3, axis=2)
    drawn = np.where(mask[..., None], photo.astype(np.float64), grey)
    halo = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~mask
    drawn[halo] = HALO_COLOUR
    drawn[outline(mask, width_px)] = OUTLINE_COLOUR
    return np.rint(drawn).astype(np.uint8)


def binary_picture(mask: MaskArray) -> ImageArray:
    """Return the mask in white on near-black, (height, width, 3)."""
    return np.where(mask[..., None], np.uint8(245), np.uint8(28)).repeat(3, axis=2)


def plain_photo(size: tuple[int, int]) -> ImageArray:
    """Return an even grey (height, width, 3) that stands in for a photograph that is gone."""
    return np.full((*size, 3), PLAIN_GREY, dtype=np.uint8)


def paint(photo: ImageArray, label_map: NDArray[np.integer]) -> ImageArray:
    """Paint a label map (height, width) over the grey photograph in the colours of PASCAL VOC.

    Background (0) shows the photograph washed out, so that the dark colours of the palette stand out; a class
    its colour at 72 % opacity, `IGNORE` cream, `UNMATCHED` diagonal stripes.
    """
    grey = np.repeat(luminance(photo)[..., None], 3, axis=2)
    colours = voc_palette().astype(np.float64)[np.where(label_map > IGNORE, label_map % IGNORE, label_map)]
    colours = np.where((label_map == UNMATCHED)[..., None], _stripes(label_map.shape), colours)
    drawn = PAINT_OPACITY * colours + (1 - PAINT_OPACITY) * grey
    drawn = np.where((label_map == 0)[..., None], WASHED * grey + (1 - WASHED) * PAPER, drawn)
    return np.rint(drawn).astype(np.uint8)


def painted_colour(value: int) -> tuple[int, int, int]:
    """Return the colour that `paint` gives a value over mid-grey (128), for legends."""
    red, green, blue = paint(np.full((1, 1, 3), 128, np.uint8), np.array([[value]]))[0, 0]
    return int(red), int(green), int(blue)


def remap(label_map: NDArray[np.integer], assignment: Mapping[int, int | None]) -> NDArray[np.int64]:
    """Return the map with every value replaced by its class; values without a class become `UNMATCHED`.

    Background (0) and `IGNORE` stay what they are unless the assignment names them.
    """
    mapped = np.full(label_map.shape, UNMATCHED, dtype=np.int64)
    for value, class_id in {0: 0, IGNORE: IGNORE, **assignment}.items():
        if class_id is not None:
            mapped[label_map == value] = class_id
    return mapped


def _stripes(shape: tuple[int, ...]) -> NDArray[np.float64]:
    rows, columns = np.indices(shape)
    bright = ((rows + columns) // 4) % 2 == 0
    return np.where(bright[..., None], 225.0, 95.0).repeat(3, axis=2)
