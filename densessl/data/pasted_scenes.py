"""Objects of other images pasted into an image: what stands alone in photographs is seen beside others and behind them.

Copy-paste as an augmentation: Ghiasi et al., CVPR 2021 (arXiv:2012.07177), there of labelled instances.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from densessl.errors import InputError
from densessl.structures import ImageArray, MaskArray


@dataclass(frozen=True)
class PasteSettings:
    """How objects are pasted.

    Args:
        scenes_per_image: how many scenes each image becomes, objects being drawn anew for each.
        share: of the scenes that get objects, in [0, 1]; the others stay as the images are.
        max_objects: most objects that an image gets; every number from 1 on is as likely.
        min_area: area of a pasted object, a share of its new image; drawn evenly in its logarithm.
        max_area: likewise, in (0, 1].
        max_scale: objects are enlarged at most by this factor, in length.
        min_shown: least share of a pasted object that lies within the image.
        min_left: least share of an object that what is pasted before it leaves, of its area until then.
        feather_px: standard deviation of the Gaussian that softens the outline of what is pasted, in pixels.
    """

    scenes_per_image: int = 1
    share: float = 0.75
    max_objects: int = 3
    min_area: float = 0.03
    max_area: float = 0.3
    max_scale: float = 2.5
    min_shown: float = 0.5
    min_left: float = 0.4
    feather_px: float = 0.8

    def __post_init__(self) -> None:
        for name in ("share", "min_shown", "min_left"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"pasting.{name} is {getattr(self, name)}; it is a share, from 0 to 1")
        for name in ("scenes_per_image", "max_objects"):
            if getattr(self, name) < 1:
                raise InputError(f"pasting.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.min_area <= self.max_area <= 1:
            raise InputError(
                f"pasting.min_area {self.min_area} and pasting.max_area {self.max_area} are shares of an image with "
                "0 < min_area <= max_area <= 1; 0.03 and 0.3 are usual"
            )
        if not self.max_scale > 0 or not self.feather_px >= 0:  # NaN too
            raise InputError(
                f"pasting.max_scale is {self.max_scale} and pasting.feather_px {self.feather_px}; a scale is above 0, "
                "a deviation 0 or more"
            )


@dataclass(frozen=True)
class Scene:
    """An image, uint8 RGB (height, width, 3), and its objects, each bool (height, width).

    What is pasted hides others, and is taken from their masks.
    """

    image: ImageArray
    masks: tuple[MaskArray, ...]


@dataclass(frozen=True)
class Cutout:
    """The rectangle around an object: uint8 RGB (height, width, 3), and bool (height, width)."""

    image: ImageArray
    mask: MaskArray


def cut_out(image: ImageArray, mask: MaskArray) -> Cutout:
    """Return an object of an image, cut to its bounding box; raises `InputError` for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise InputError("an empty mask has no object to cut out")
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Cutout(image[box].copy(), mask[box].copy())


def paste(scene: Scene, cutout: Cutout, settings: PasteSettings, generator: np.random.Generator) -> Scene | None:
    """Paste an object at a random place and size, mirrored or not; its mask is the last of the result.

    What it covers is taken from the masks before it. Returns None where the drawn place breaks a rule of the settings:
    draw again.
    """
    height, width = scene.image.shape[:2]
    is_mirrored = generator.random() < 0.5
    area = np.exp(generator.uniform(np.log(settings.min_area), np.log(settings.max_area))) * height * width
    middle = generator.uniform(0.1, 0.9, 2) * (height, width)
    scale = float(np.sqrt(area / np.count_nonzero(cutout.mask)))
    if scale > settings.max_scale:
        return None
    pixels, opacity = _resized(cutout, scale, is_mirrored=is_mirrored, feather_px=settings.feather_px)
    top, left = (round(place - side / 2) for place, side in zip(middle, opacity.shape, strict=True))
    inside, source = _overlap(top, left, opacity.shape, (height, width))
    new = np.zeros((height, width), dtype=bool)
    new[inside] = opacity[source] > 0.5
    if np.count_nonzero(new) < max(1, settings.min_shown * np.count_nonzero(opacity > 0.5)):
        return None
    masks = tuple(mask & ~new for mask in scene.masks)
    pairs = zip(masks, scene.masks, strict=True)
    if any(np.count_nonzero(after) < max(1, settings.min_left * np.count_nonzero(before)) for after, before in pairs):
        return None
    image = scene.image.copy()
    weight = opacity[source][:, :, None]
    image[inside] = np.rint(image[inside] * (1 - weight) + pixels[source] * weight).astype(np.uint8)
    return Scene(image, (*masks, new))


def _resized(cutout: Cutout, scale: float, *, is_mirrored: bool, feather_px: float) -> tuple[ImageArray, np.ndarray]:
    """Return an object at another scale, and its opacity, float32 (height, width) in [0, 1].

    Both have a margin in which the soft outline ends.
    """
    height, width = (max(1, round(side * scale)) for side in cutout.mask.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    order = slice(None, None, -1 if is_mirrored else 1)
    pixels = cv2.resize(np.ascontiguousarray(cutout.image[:, order]), (width, height), interpolation=how)
    mask = np.ascontiguousarray(cutout.mask[:, order]).astype(np.float32)
    opacity = cv2.resize(mask, (width, height), interpolation=how)
    margin = math.ceil(3 * feather_px)
    if margin:
        sides = (margin,) * 4
        pixels = cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_REPLICATE)
        opacity = cv2.GaussianBlur(cv2.copyMakeBorder(opacity, *sides, cv2.BORDER_CONSTANT), (0, 0), feather_px)
    return pixels, opacity


def _overlap(
    top: int, left: int, size: tuple[int, int], frame: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of a frame that a rectangle at (top, left) covers, and the same part of the rectangle."""
    inside, source = [], []
    for start, length, limit in zip((top, left), size, frame, strict=True):
        first, last = min(max(start, 0), limit), max(min(start + length, limit), 0)
        inside.append(slice(first, max(first, last)))
        source.append(slice(first - start, max(first, last) - start))
    return (inside[0], inside[1]), (source[0], source[1])
