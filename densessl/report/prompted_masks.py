"""Masks drawn over the photograph that they were asked for on, with the prompts."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from densessl.data.label_maps import voc_palette
from densessl.report.overlays import PAPER, WASHED, luminance, outline, spotlight
from densessl.structures import ImageArray, MaskArray

SIDE_PX = 640
"""Long side of the picture of one mask."""
MAP_SIDE_PX = 1024
"""Long side of the picture of a map."""

_LETTER_PX = 14
_CAPTION_PX = 24
_GAP_PX = 8
_DOT_PX = 6
_COLOURFUL = 64  # between the strongest and the weakest channel
_PAPER, _INK, _WHITE = (250, 250, 250), (20, 20, 20), (255, 255, 255)
_ON, _OFF, _BOX = (60, 170, 60), (200, 40, 40), (70, 130, 230)


def draw_masks(
    photo: ImageArray,
    masks: Sequence[MaskArray],
    captions: Sequence[str],
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    box: NDArray[np.float64] | None,
) -> ImageArray:
    """Draw each mask with its caption, side by side; large photographs are reduced.

    photo: uint8 RGB (height, width, 3). masks: bool (height, width). points: (n, 2), `(x, y)`; green where labels (n,)
    are 1, red where they are 0. box: `(x0, y0, x1, y1)`, blue.
    """
    scale = min(1.0, SIDE_PX / max(photo.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    font = ImageFont.load_default(_LETTER_PX)
    column = max(width, *(int(font.getlength(caption)) + 2 for caption in captions))
    sheet = Image.new("RGB", (len(masks) * (column + _GAP_PX) - _GAP_PX, height + _CAPTION_PX), _PAPER)
    draw = ImageDraw.Draw(sheet)
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    for number, (mask, caption) in enumerate(zip(masks, captions, strict=True)):
        left = number * (column + _GAP_PX)
        reduced = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        panel = Image.fromarray(spotlight(small.astype(np.uint8), reduced.astype(np.bool_)))
        _draw_prompts(ImageDraw.Draw(panel), points * scale, labels, None if box is None else box * scale)
        sheet.paste(panel, (left, 0))
        draw.text((left, height + _CAPTION_PX // 2), caption, fill=_INK, font=font, anchor="lm")
    return np.asarray(sheet)


def draw_mask_map(photo: ImageArray, numbers: NDArray[np.integer]) -> ImageArray:
    """Paint the numbered masks (height, width) over the photograph, outlined; large photographs are reduced.

    Colours mean nothing but another mask, and come again where there are many; where there is no mask the photograph is
    washed out.
    """
    scale = min(1.0, MAP_SIDE_PX / max(photo.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    grey = luminance(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8))[..., None]
    small = cv2.resize(numbers.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    colours = _colours()
    drawn = 0.55 * colours[(small.astype(np.int64) - 1) % len(colours)] + 0.45 * grey
    drawn = np.where((small == 0)[..., None], WASHED * grey + (1 - WASHED) * PAPER, drawn)
    edges = np.zeros(small.shape, dtype=np.bool_)
    for number in np.unique(small[small > 0]):
        edges |= outline(small == number, 1)
    drawn[edges] = _WHITE
    return np.rint(drawn).astype(np.uint8)


def _colours() -> NDArray[np.float64]:
    """Return the colours of PASCAL VOC, (num_colours, 3), without greys, which would look like no mask."""
    palette = voc_palette().astype(np.float64)
    return palette[np.ptp(palette, axis=1) >= _COLOURFUL]


def _draw_prompts(
    draw: ImageDraw.ImageDraw, points: NDArray[np.float64], labels: NDArray[np.int64], box: NDArray[np.float64] | None
) -> None:
    if box is not None:
        draw.rectangle(box.tolist(), outline=_WHITE, width=4)
        draw.rectangle(box.tolist(), outline=_BOX, width=2)
    for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
        around = (x - _DOT_PX, y - _DOT_PX, x + _DOT_PX, y + _DOT_PX)
        draw.ellipse(around, fill=_ON if label == 1 else _OFF, outline=_WHITE, width=2)
