"""A strip of masks: the one that was asked for, and those most similar to it, with their cosines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densessl.report.cluster_marks import INK, WHITE, cluster_colour
from densessl.report.mask_crops import FRAME_PX, framed
from densessl.structures import ImageArray

TILE_PX = 108
"""Long side of a picture in a strip."""

_CELL_PX = TILE_PX + 2 * FRAME_PX
_GAP_PX, _QUERY_GAP_PX, _EDGE_PX = 8, 28, 10
_HEADING_PX, _LINE_PX = 28, 19
_MUTED = (85, 92, 100)
_SHORTENED = "..."


@dataclass(frozen=True)
class StripTile:
    """A mask in a strip: its picture (at most `TILE_PX` a side), its cluster, where it is from, and its cosine.

    cosine: to the first of the strip; None for that one.
    """

    picture: ImageArray
    cluster: int
    name: str
    cosine: float | None


def draw_strip(heading: str, tiles: Sequence[StripTile]) -> ImageArray:
    """Draw the mask that was asked for and, beyond a gap, its neighbours, uint8 RGB; below each its cosine and name."""
    width = 2 * _EDGE_PX + len(tiles) * (_CELL_PX + _GAP_PX) - _GAP_PX + (_QUERY_GAP_PX if len(tiles) > 1 else 0)
    heading_font = ImageFont.load_default(15)
    width = max(width, 2 * _EDGE_PX + int(np.ceil(heading_font.getlength(heading))))
    height = _HEADING_PX + _CELL_PX + 2 * _LINE_PX + 2 * _EDGE_PX
    canvas = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(canvas)
    draw.text((_EDGE_PX, _EDGE_PX + 2), heading, fill=INK, font=heading_font)
    for number, tile in enumerate(tiles):
        left = _EDGE_PX + number * (_CELL_PX + _GAP_PX) + (_QUERY_GAP_PX if number else 0)
        top = _EDGE_PX + _HEADING_PX
        picture = framed(tile.picture, cluster_colour(tile.cluster), tile.cluster)
        rows, columns = picture.shape[:2]
        canvas.paste(Image.fromarray(picture), (left + (_CELL_PX - columns) // 2, top + _CELL_PX - rows))
        middle, below = left + _CELL_PX // 2, top + _CELL_PX + 4
        text = "query" if tile.cosine is None else f"{tile.cosine:.3f}"
        draw.text((middle, below), text, fill=INK, font=ImageFont.load_default(14), anchor="ma")
        name_font = ImageFont.load_default(12)
        name = _fitted(tile.name, _CELL_PX, name_font)
        draw.text((middle, below + _LINE_PX), name, fill=_MUTED, font=name_font, anchor="ma")
    if len(tiles) > 1:
        x = _EDGE_PX + _CELL_PX + (_GAP_PX + _QUERY_GAP_PX) // 2
        draw.line((x, _EDGE_PX + _HEADING_PX, x, _EDGE_PX + _HEADING_PX + _CELL_PX), fill=(200, 204, 208), width=1)
    return np.asarray(canvas)


def _fitted(text: str, width_px: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a text, without its beginning where it is too long: files of one data set differ at the end."""
    if font.getlength(text) <= width_px:
        return text
    kept = text
    while kept and font.getlength(_SHORTENED + kept) > width_px:
        kept = kept[1:]
    return _SHORTENED + kept
