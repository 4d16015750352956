"""How an image, and its labels with it, are brought to the size at which features are taken."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from densessl.errors import InputError
from densessl.evaluation.segmentation import resize_nearest
from densessl.structures import ImageArray, LabelMap

Fit = Literal["stretch", "crop"]


@dataclass(frozen=True)
class Framing:
    """The frame of features: a size, and what is done with images of another shape.

    size_px: (height, width) of what the encoder sees.
    fit: stretch (each side is resized by itself, as in the published evaluation of MaskContrast) or crop (the image
        is resized until it just covers the frame, keeping its shape, and its centre is cut out, as in the published
        evaluation of STEGO).
    """

    size_px: tuple[int, int]
    fit: Fit = "stretch"

    def __post_init__(self) -> None:
        if min(self.size_px) < 1:
            raise InputError(f"a frame of {self.size_px} (height, width) holds no pixel; give 1 or more")
        if self.fit not in ("stretch", "crop"):
            raise InputError(f"framing {self.fit!r} is unknown; choose stretch or crop")

    def image(self, image: ImageArray) -> ImageArray:
        """Return an image (height, width, 3) in the frame: averaged over areas where it shrinks, else bilinear."""
        size = self._resized(image.shape[:2])
        is_smaller = image.shape[0] > size[0] or image.shape[1] > size[1]
        resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)
        return np.asarray(resized[self._window(size)], dtype=np.uint8)

    def labels(self, label_map: LabelMap) -> LabelMap:
        """Return a label map (height, width) in the frame, each pixel taken from the one its centre falls into."""
        size = self._resized(label_map.shape)
        return resize_nearest(label_map, size)[self._window(size)]

    def _resized(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Return the (height, width) that an image of `size` is resized to before it is cut."""
        (height, width), (wanted_height, wanted_width) = size, self.size_px
        if self.fit == "stretch":
            return self.size_px
        if wanted_height * width >= wanted_width * height:
            return wanted_height, wanted_height * width // height
        return wanted_width * height // width, wanted_width

    def _window(self, size: tuple[int, int]) -> tuple[slice, slice]:
        starts = [round((found - wanted) / 2) for found, wanted in zip(size, self.size_px, strict=True)]
        rows, columns = (slice(start, start + side) for start, side in zip(starts, self.size_px, strict=True))
        return rows, columns
