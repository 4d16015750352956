"""Draws the gallery's thumbnails, each image once; one that cannot be drawn becomes the reason why."""

import base64
import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.report.overlays import spotlight
from densessl.report.photographs import stored_map
from densessl.report.thumbnails import resize_map, resize_photo, thumbnail_size
from densessl.structures import ImageArray, ImageRef

THUMBNAIL_PX = 208
JPEG_QUALITY = 80
NUM_THREADS = 4  # as many photographs are in memory at once


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG as a data URI and its (height, width), or in place of both `problem`, why there is none."""

    uri: str = field(default="", repr=False)
    size: tuple[int, int] = (0, 0)
    problem: str | None = None


def draw_thumbnails(
    masks: Path, images: Mapping[str, ImageRef], with_mask: Iterable[str], without_mask: Iterable[str]
) -> dict[str, Thumbnail]:
    """Draw the photographs of these stems, those of `with_mask` with the mask `<masks>/<stem>.png` laid over.

    Reads nothing but these photographs and masks; no fault in them raises.
    """
    todo = {**dict.fromkeys(without_mask, False), **dict.fromkeys(with_mask, True)}
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        drawn = pool.map(lambda item: _draw(masks, images, *item), todo.items())
        return dict(zip(todo, drawn, strict=True))


def _draw(masks: Path, images: Mapping[str, ImageRef], stem: str, has_mask: bool) -> Thumbnail:
    if stem not in images:
        return Thumbnail(problem="not among the images that were given")
    try:
        photo = read_image(images[stem].path)
        size = thumbnail_size((photo.shape[0], photo.shape[1]), THUMBNAIL_PX)
        small = resize_photo(photo, size)
        if not has_mask:
            return Thumbnail(_jpeg_uri(small), size)
        stored = stored_map(masks, stem)
    except InputError as error:
        return Thumbnail(problem=str(error))
    if stored is None:
        return Thumbnail(problem=f"no mask {masks.name}/{stem}.png; run saliency again")
    if stored.shape != photo.shape[:2]:
        return Thumbnail(
            problem=f"the image is {photo.shape[0]} x {photo.shape[1]} and its mask {stored.shape[0]} x "
            f"{stored.shape[1]} (height x width); give the images that the masks were made from"
        )
    return Thumbnail(_jpeg_uri(spotlight(small, resize_map(stored > 0, size).astype(bool))), size)


def _jpeg_uri(pixels: ImageArray) -> str:
    """Return an RGB image (height, width, 3) as a JPEG data URI; colour at full size keeps the outline crisp."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
