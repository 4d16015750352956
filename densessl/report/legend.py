"""Names below a painted label map."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from densessl.report.overlays import painted_colour
from densessl.structures import ImageArray

INK = (20, 20, 20)
PAPER = (250, 250, 250)
_LETTER_PX = 14
_ROW_PX = 22
_SWATCH_PX = 14
_GAP_PX = 6


def with_legend(picture: ImageArray, label_map: NDArray[np.integer], names: Mapping[int, str]) -> ImageArray:
    """Return a painted label map, uint8 RGB (height, width, 3), with a swatch and a name below for each value in it.

    The result is wider than the picture only where a single name is.
    """
    font = ImageFont.load_default(_LETTER_PX)
    values = [value for value in np.unique(label_map).tolist() if value in names]
    widths = [_SWATCH_PX + 3 * _GAP_PX + int(np.ceil(font.getlength(names[value]))) for value in values]
    height, width = picture.shape[:2]
    total = max(width, *widths) if widths else width
    places = _places(widths, total)
    num_rows = 1 + max((row for row, _ in places), default=-1)
    canvas = Image.new("RGB", (total, height + num_rows * _ROW_PX), PAPER)
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for value, (row, left) in zip(values, places, strict=True):
        x, y = left + _GAP_PX, height + row * _ROW_PX + (_ROW_PX - _SWATCH_PX) // 2
        draw.rectangle((x, y, x + _SWATCH_PX - 1, y + _SWATCH_PX - 1), fill=painted_colour(value), outline=INK)
        draw.text((x + _SWATCH_PX + _GAP_PX, y + _SWATCH_PX // 2), names[value], fill=INK, font=font, anchor="lm")
    return np.asarray(canvas)


def _places(widths: Sequence[int], total: int) -> list[tuple[int, int]]:
    """Return the row and left edge of entries that fill rows of `total` pixels in reading order."""
    places, row, left = [], 0, 0
    for width in widths:
        if left and left + width > total:
            row, left = row + 1, 0
        places.append((row, left))
        left += width
    return places
