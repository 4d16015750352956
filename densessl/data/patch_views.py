"""Whole images at a small size, and what a network of patches learns of them: border and middle, or soft maps."""

from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from densessl.data.images import read_image
from densessl.data.normalisation import normalise_image
from densessl.data.soft_targets import SoftMaps, TargetView, check_map_size
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageRef

Pixels = TypeVar("Pixels", bound=NDArray[Any])

BORDER, MIDDLE, NEITHER = 0.0, 1.0, 0.5
BORDER_SHARE = 0.14
"""Pixels nearer to an edge than this share of the side are border."""
BORDER_CELL_PX = 4
"""So many pixels inside the margin are border in any case: where the side is short, one cell of a network."""
MIDDLE_SHARE = 0.3
"""Pixels farther from every edge than this share of its side are middle."""


class PatchViews(Dataset[TargetView]):
    """Gives an image as it is or mirrored, and its target; the same `SampleKey` always gives the same view.

    An image lies at the top left of its view, zeros around it. One that cannot be read gives an empty view, `NEITHER`
    all over: the others are worth learning from.
    A map of another size than its image is an `InputError`.

    Args:
        images: to read.
        size_px: long side that images are brought to, and side of the views.
        margin_px: a patch reaches so far around its centre; pixels nearer to an edge are `NEITHER`.
        maps: the targets; without them `place_of_pixels`.
    """

    def __init__(
        self, images: tuple[ImageRef, ...], size_px: int, margin_px: int, maps: SoftMaps | None = None
    ) -> None:
        self.images = images
        self.size_px = size_px
        self.margin_px = margin_px
        self.maps = maps

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> TargetView:  # type: ignore[override]
        ref = self.images[key.index]
        view = TargetView(torch.zeros(3, self.size_px, self.size_px), torch.full((self.size_px, self.size_px), NEITHER))
        try:
            original = read_image(ref.path)
        except InputError:
            return view
        image = resize_long_side(original, self.size_px)
        height, width = image.shape[:2]
        if self.maps is None:
            target = place_of_pixels(height, width, self.margin_px)
        else:
            soft = self.maps.read(ref.stem)
            check_map_size(ref, soft.shape, original.shape[:2])
            soft = resize_long_side(soft, self.size_px)
            target = np.where(_is_whole(height, width, self.margin_px), soft, NEITHER).astype(np.float32)
        if np.random.default_rng([key.seed, key.epoch, key.index]).random() < 0.5:
            image, target = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(target[:, ::-1])
        view.image[:, :height, :width] = normalise_image(image)
        view.target[:height, :width] = torch.from_numpy(target)
        return view


def resize_long_side(image: Pixels, size_px: int) -> Pixels:
    """Return an image (height, width, 3) or a map (height, width), shrunk or enlarged to a long side of `size_px`."""
    height, width = image.shape[:2]
    scale = size_px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=image.dtype)  # type: ignore[return-value]


def place_of_pixels(height: int, width: int, margin_px: int) -> NDArray[np.float32]:
    """Return (height, width): `BORDER`, `MIDDLE` or `NEITHER`, as the distance from the edges says.

    Pixels within `margin_px` of an edge are `NEITHER`, since no patch around them fits.
    """
    rows, columns = _distances(height), _distances(width)
    near = [
        distance < max(BORDER_SHARE * side, margin_px + BORDER_CELL_PX)
        for distance, side in ((rows, height), (columns, width))
    ]
    far = [distance > MIDDLE_SHARE * side for distance, side in ((rows, height), (columns, width))]
    is_border = near[0][:, None] | near[1][None]
    is_middle = far[0][:, None] & far[1][None]
    place = np.select([is_border, is_middle], [BORDER, MIDDLE], NEITHER)
    return np.where(_is_whole(height, width, margin_px), place, NEITHER).astype(np.float32)


def _is_whole(height: int, width: int, margin_px: int) -> NDArray[np.bool_]:
    """Say of each pixel (height, width) whether it is at least `margin_px` away from every edge."""
    whole: NDArray[np.bool_] = np.minimum(_distances(height)[:, None], _distances(width)[None]) >= margin_px
    return whole


def _distances(side: int) -> NDArray[np.int64]:
    """Return the distance of each of `side` pixels in a row from the nearer end, (side,)."""
    return np.minimum(np.arange(side), side - 1 - np.arange(side))
