"""Whole images at a small size, and which of their pixels lie near the border or in the middle."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from densessl.data.images import read_image
from densessl.data.normalisation import normalise_image
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageArray, ImageRef

BORDER, MIDDLE, NEITHER = 0.0, 1.0, -1.0
BORDER_SHARE = 0.14
"""Pixels nearer to an edge than this share of the side are border."""
MIDDLE_SHARE = 0.3
"""Pixels farther from every edge than this share of its side are middle."""


class BorderView(NamedTuple):
    """image: float32 (3, size, size), normalised, zeros around it. target: float32 (size, size), `place_of_pixels`."""

    image: torch.Tensor
    target: torch.Tensor


class BorderViews(Dataset[BorderView]):
    """Gives an image as it is or mirrored; the same `SampleKey` always gives the same view.

    An image that cannot be read gives an empty view, all of it `NEITHER`: to learn from the others is worth more.

    Args:
        images: to read.
        size_px: long side, and size of the views.
        margin_px: a patch reaches so far around its centre; pixels nearer to an edge are `NEITHER`.
    """

    def __init__(self, images: tuple[ImageRef, ...], size_px: int, margin_px: int) -> None:
        self.images = images
        self.size_px = size_px
        self.margin_px = margin_px

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> BorderView:  # type: ignore[override]
        view = BorderView(torch.zeros(3, self.size_px, self.size_px), torch.full((self.size_px, self.size_px), NEITHER))
        try:
            image = resize_long_side(read_image(self.images[key.index].path), self.size_px)
        except InputError:
            return view
        if np.random.default_rng([key.seed, key.epoch, key.index]).random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        height, width = image.shape[:2]
        view.image[:, :height, :width] = normalise_image(image)
        view.target[:height, :width] = torch.from_numpy(place_of_pixels(height, width, self.margin_px))
        return view


def resize_long_side(image: ImageArray, size_px: int) -> ImageArray:
    """Return an image (height, width, 3), shrunk or enlarged to a long side of `size_px`."""
    height, width = image.shape[:2]
    scale = size_px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8)


def place_of_pixels(height: int, width: int, margin_px: int) -> NDArray[np.float32]:
    """Return (height, width): `BORDER`, `MIDDLE` or `NEITHER`, as the distance from the nearest edge says.

    That is the smaller of the distances from a horizontal edge, in heights, and from a vertical one, in widths.
    `NEITHER` is also what lies within `margin_px` of an edge.
    """
    rows, columns = (np.minimum(np.arange(side), side - 1 - np.arange(side)) for side in (height, width))
    distance = np.minimum((rows / height)[:, None], (columns / width)[None])
    is_whole = np.minimum(rows[:, None], columns[None]) >= margin_px
    place = np.select([distance < BORDER_SHARE, distance > MIDDLE_SHARE], [BORDER, MIDDLE], NEITHER)
    return np.where(is_whole, place, NEITHER).astype(np.float32)
