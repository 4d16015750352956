"""Where automatic masks are asked for: crops of an image, and a grid of points in each (arXiv:2304.02643, app. B)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.promptable.automatic_settings import AutomaticSettings

_EDGE_PX = 20
"""A mask whose box ends so near to the edge of a crop goes on beyond it, as published."""


@dataclass(frozen=True)
class Crop:
    """A part of an image: `(x0, y0, x1, y1)` pixels, upper bound exclusive, and its layer, 0 for the whole image."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0

    def points(self, per_side: int) -> NDArray[np.float64]:
        """Return the centres (per_side^2, 2) of equal cells of the crop, `(x, y)` in its own pixels, row by row."""
        centres = np.linspace(0.5 / per_side, 1 - 0.5 / per_side, per_side)
        x, y = np.meshgrid(centres, centres)
        height, width = self.size
        return np.stack([x.ravel() * width, y.ravel() * height], axis=1)

    def cuts(self, box: tuple[int, int, int, int], image_size: tuple[int, int]) -> bool:
        """Say whether the crop's edge cuts what fills a box: it ends within 20 pixels of an edge of the crop, and not
        of the image's.

        box: `(x0, y0, x1, y1)` of a mask in the crop's own pixels.
        """
        x, y = self.box[:2]
        height, width = image_size
        last = (box[0] + x, box[1] + y, box[2] - 1 + x, box[3] - 1 + y)  # the last pixels, as published
        sides = zip(last, self.box, (0, 0, width, height), strict=True)
        return any(abs(side - own) <= _EDGE_PX < abs(side - of_image) for side, own, of_image in sides)


def crops_of(image_size: tuple[int, int], settings: AutomaticSettings) -> tuple[Crop, ...]:
    """Return the whole image and the crops of each layer, column by column.

    Layer i has 2^i crops along each side, overlapping by `crop_overlap` of the short side over 2^(i-1). Crops that
    would lie outside an image of a few pixels are left out.
    """
    height, width = image_size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, settings.crop_layers + 1):
        per_side = 2**layer
        overlap = int(settings.crop_overlap * min(image_size) * (2 / per_side))
        columns, rows = (_spans(length, per_side, overlap) for length in (width, height))
        crops += [Crop((x0, y0, x1, y1), layer) for x0, x1 in columns for y0, y1 in rows]
    return tuple(crops)


def _spans(length: int, count: int, overlap: int) -> list[tuple[int, int]]:
    span = math.ceil((overlap * (count - 1) + length) / count)
    starts = ((span - overlap) * index for index in range(count))
    return [(start, min(start + span, length)) for start in starts if start < length]
