"""What views are cut from: an image with its instance map, whole or at reduced size, read anew or from a cache."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

from densessl.data.confidence import MaskConfidence
from densessl.data.images import image_size, read_image
from densessl.data.masks import MaskFolder, nearest_pixels
from densessl.data.source_cache import Source, SourceCache, source_key
from densessl.errors import InputError
from densessl.structures import ImageRef, InstanceMap, MaskArray

MAX_MASKS = 255
"""Masks of one image that can be told apart: instance maps travel as bytes."""
_KEY_VERSION = 2
_NARROWEST_CROP = 3 / 4  # width over height, or height over width, of random crops


@dataclass(frozen=True)
class ViewSources:
    """Reads the images that views are cut from, with their instance maps.

    Args:
        images: the images.
        masks: their masks.
        split_instances: number the connected regions of plain masks.
        reduced_for: size_px and min_scale of the views, where images larger than they need are reduced
            (`source_size`); `None` reads all as they are.
        cache: keeps what was read, if given.
        confidence: reads how sure the masks are, where that is wanted.
    """

    images: tuple[ImageRef, ...]
    masks: MaskFolder
    split_instances: bool = False
    reduced_for: tuple[int, float] | None = None
    cache: SourceCache | None = None
    confidence: MaskConfidence | None = None

    def read(self, index: int) -> Source:
        """Return an image with its instance map, and with its confidence where that is wanted.

        Raises:
            InputError: a file that cannot be read, a mask or soft map of another size, or more than 255 masks.
        """
        kept = self.cache.read(index) if self.cache is not None else None
        if kept is not None:
            return kept
        source = self._decode(self.images[index])
        if self.cache is not None:
            self.cache.write(index, source)
        return source

    def _decode(self, ref: ImageRef) -> Source:
        if self.reduced_for is None:
            image = read_image(ref.path)
            full, size = image.shape[:2], None
        else:
            full = image_size(ref.path)
            size = source_size(full, *self.reduced_for)
            image = read_image(ref.path, size)
        masks = instance_map(self.masks, ref, full, self.split_instances, reduced_to=size)
        confidence = None if self.confidence is None else self.confidence.read(ref, full, size)
        return Source(image, masks, confidence)


def source_size(size: tuple[int, int], size_px: int, min_scale: float) -> tuple[int, int]:
    """Return the smallest size from which views can be cut as well as from the whole image.

    The sides shrink by one factor, at most so far that the smallest and narrowest crop, a share `min_scale` of the area
    with sides as 3 to 4, and the short side of the image keep `size_px` pixels; nothing is enlarged.

    Args:
        size: (height, width) of the image.
        size_px: height and width of a view.
        min_scale: smallest share of the image's area that a crop takes.
    """
    height, width = size
    narrow_px = math.sqrt(_NARROWEST_CROP * min_scale * height * width)
    factor = max(size_px / narrow_px, size_px / min(height, width))
    if factor >= 1:
        return height, width
    return math.ceil(factor * height - 1e-9), math.ceil(factor * width - 1e-9)


def open_source_cache(folder: Path, sources: ViewSources, max_bytes: float) -> SourceCache:
    """Lay out a cache of images and masks in a folder, or find the one that is there; nothing is decoded yet.

    An image is stored again where path, size or modification time of it or of its mask have changed, the mask is read
    in another way, or Pillow or OpenCV have another version. `sources.cache` is not used.

    Raises:
        InputError: the folder cannot be written, its disk is too small, or an image is gone.
    """
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda ref: _kept_size(ref, sources.reduced_for), sources.images))
    keys = [_key(ref, size, sources) for ref, size in zip(sources.images, sizes, strict=True)]
    stems = [ref.stem for ref in sources.images]
    cache = SourceCache(folder, stems, sizes, keys, max_bytes, has_confidence=sources.confidence is not None)
    cache.prepare()
    return cache


def instance_map(
    masks: MaskFolder,
    ref: ImageRef,
    size: tuple[int, int],
    split_instances: bool = False,
    *,
    reduced_to: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Read an image's masks as an instance map (height, width): 0 background, 1.. masks.

    Where the mask folder holds instance ids they are kept; a plain mask is one instance, or, with `split_instances`,
    one for each connected region (4-connectivity; of more than 255 the largest ones). With `reduced_to`, a
    (height, width), the map is then reduced to the nearest pixels.

    Raises:
        InputError: a mask of another size than the image, or more than 255 masks in it.
    """
    reading = masks.read(ref, size, None if split_instances else reduced_to)  # regions are those of the whole mask
    if reading.instances is not None:
        instances: InstanceMap = reading.instances
    elif split_instances:
        instances = largest_regions(connected_regions(reading.foreground), MAX_MASKS)
    else:
        instances = reading.foreground.astype(np.int64)
    highest = int(instances.max(initial=0))
    if highest > MAX_MASKS:
        raise InputError(
            f"image {ref.stem!r} has {highest} masks; at most {MAX_MASKS} are supported, drop the smallest ones"
        )
    found = instances.astype(np.uint8)
    return nearest_pixels(found, reduced_to) if split_instances and reduced_to is not None else found


def connected_regions(foreground: MaskArray) -> InstanceMap:
    """Number the connected regions (4-connectivity) of a mask 1, 2, ..."""
    _, regions = cv2.connectedComponents(foreground.astype(np.uint8), connectivity=4)
    return regions.astype(np.int64)


def largest_regions(regions: InstanceMap, num_kept: int) -> InstanceMap:
    """Return the map with its `num_kept` largest regions numbered 1, 2, ... in their order, and the others 0."""
    areas = np.bincount(regions.ravel())
    if len(areas) - 1 <= num_kept:
        return regions
    order = 1 + np.argsort(-areas[1:], kind="stable")[:num_kept]
    numbers = np.zeros(len(areas), dtype=np.int64)
    numbers[np.sort(order)] = np.arange(1, num_kept + 1)
    return numbers[regions]


def _kept_size(ref: ImageRef, reduced_for: tuple[int, float] | None) -> tuple[int, int]:
    size = image_size(ref.path)
    return size if reduced_for is None else source_size(size, *reduced_for)


def _key(ref: ImageRef, size: tuple[int, int], sources: ViewSources) -> bytes:
    """Return a key that changes whenever the pixels that `ViewSources` would decode may have changed."""
    mask = sources.masks.files.get(ref.stem)
    soft = None if sources.confidence is None else sources.confidence.file(ref.stem)
    files = [file_state(path) for path in (ref.path, mask, soft) if path is not None]
    reading = (sources.masks.code, sources.split_instances, sources.reduced_for is not None, size)
    return source_key(_KEY_VERSION, files, reading, PIL.__version__, cv2.__version__)


def file_state(path: Path) -> tuple[str, int, int]:
    """Return where a file is, its bytes, and when it was changed (nanoseconds)."""
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"cannot look at {path} ({error.strerror}); put it there or take it off the list") from error
    return os.path.abspath(path), stat.st_size, stat.st_mtime_ns
