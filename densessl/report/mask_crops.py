"""Small pictures of single masks: what is inside in colour, what is around it washed out."""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densessl.report.cluster_marks import INK, Colour, ink_on
from densessl.report.overlays import luminance
from densessl.report.thumbnails import resize_photo
from densessl.structures import ImageArray, MaskArray

MARGIN = 0.06
"""Of the longer side of a mask's box, left around it."""
LEAST_SHARE = 0.25
FRAME_PX = 4
"""Width of the frame in the colour of the cluster, a dark line of one pixel on either side included."""

_PAPER, _KEPT = 246, 0.28  # what is around a mask: that much of its brightness, over near-white
_TAG_PX = 14

Box = tuple[int, int, int, int]  # (x0, y0, x1, y1), upper bounds exclusive


def crop_box(box: Box, size: tuple[int, int]) -> Box:
    """Return a box with a margin, each side at least `LEAST_SHARE` of the image's longer one, kept inside the image.

    Without that a mask of a few pixels would be a blur, and a narrow one a line. size: (height, width) of the image.
    """
    x0, y0, x1, y1 = box
    margin = round(MARGIN * max(x1 - x0, y1 - y0))
    least = round(LEAST_SHARE * max(size))
    left, right = _grown(x0 - margin, x1 + margin, least, size[1])
    top, bottom = _grown(y0 - margin, y1 + margin, least, size[0])
    return left, top, right, bottom


def crop_size(box: Box, size: tuple[int, int], long_side_px: int) -> tuple[int, int]:
    """Return the (height, width) of `cut_out` of a box in an image of `size` (height, width)."""
    x0, y0, x1, y1 = crop_box(box, size)
    scale = long_side_px / max(x1 - x0, y1 - y0)
    return max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale))


def cut_out(photo: ImageArray, mask: MaskArray, box: Box, long_side_px: int) -> ImageArray:
    """Return the part of a photograph (height, width, 3) around a mask, its long side `long_side_px`; it may grow."""
    size = (photo.shape[0], photo.shape[1])
    x0, y0, x1, y1 = crop_box(box, size)
    height, width = crop_size(box, size, long_side_px)
    small = resize_photo(np.ascontiguousarray(photo[y0:y1, x0:x1]), (height, width))
    inside = np.ascontiguousarray(mask[y0:y1, x0:x1], dtype=np.float32)
    shrinks = height <= y1 - y0 and width <= x1 - x0
    share = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    washed = np.repeat((_KEPT * luminance(small) + (1 - _KEPT) * _PAPER)[..., None], 3, axis=2)
    return np.rint(share[..., None] * small + (1 - share[..., None]) * washed).astype(np.uint8)


def framed(picture: ImageArray, colour: Colour, number: int) -> ImageArray:
    """Return a picture with a frame in the colour of its cluster, and the cluster's number in the upper left corner."""
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width + 2 * FRAME_PX, height + 2 * FRAME_PX), INK)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((1, 1, width + 2 * FRAME_PX - 2, height + 2 * FRAME_PX - 2), fill=colour)
    draw.rectangle((FRAME_PX - 1, FRAME_PX - 1, width + FRAME_PX, height + FRAME_PX), fill=INK)
    canvas.paste(Image.fromarray(picture), (FRAME_PX, FRAME_PX))
    font = ImageFont.load_default(_TAG_PX - 2)
    text = str(number)
    right, bottom = FRAME_PX + int(np.ceil(font.getlength(text))) + 5, FRAME_PX + _TAG_PX
    draw.rectangle((1, 1, right, bottom), fill=colour)
    draw.line((1, bottom + 1, right + 1, bottom + 1, right + 1, 1), fill=INK)
    draw.text(((1 + right) / 2, (1 + bottom) / 2), text, fill=ink_on(colour), font=font, anchor="mm")
    return np.asarray(canvas)


def _grown(start: int, stop: int, least: int, most: int) -> tuple[int, int]:
    """Return the ends of an interval, made at least so long about its middle, moved and cut into [0, most]."""
    missing = max(0, least - (stop - start))
    start, stop = start - missing // 2, stop + missing - missing // 2
    if missing:  # moved, so that what lies at an edge of the image is not shown narrower
        shift = max(0, -start) - max(0, stop - most)
        start, stop = start + shift, stop + shift
    return max(0, start), min(most, stop)
