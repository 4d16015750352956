"""Small pictures for the page: resizing, cropping and embedding as data URIs."""

import base64
import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densessl.errors import InputError
from densessl.structures import ImageArray, MaskArray

WEBP_QUALITY = 76


def thumbnail_size(size: tuple[int, int], long_side_px: int) -> tuple[int, int]:
    """Return (height, width) scaled down to a long side of `long_side_px`; smaller images stay as they are."""
    height, width = size
    scale = min(1.0, long_side_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_photo(photo: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Resize an RGB image to `size` (height, width), averaging where it shrinks."""
    if photo.shape[:2] == size:
        return photo
    shrinks = size[0] <= photo.shape[0] and size[1] <= photo.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(photo, (size[1], size[0]), interpolation=interpolation), dtype=np.uint8)


def resize_map(values: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.generic]:
    """Resize a label map or mask (height, width) to `size` by taking the pixel at each cell's centre."""
    height, width = values.shape
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.int64)
    return values[rows[:, None], columns[None, :]]


def square_crop(mask: MaskArray, margin: float = 0.1) -> tuple[slice, slice]:
    """Return rows and columns of a square around the mask, `margin` of its side added, kept inside the image.

    The side is at most the image's short side, so a wide mask is cropped around its middle; an empty mask
    gives the square in the middle of the image.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        rows, columns = np.array([0, height - 1]), np.array([0, width - 1])
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = min(height, width, int(np.ceil(max(bottom - top, right - left) * (1 + 2 * margin))))
    first_row = int(np.clip((top + bottom - side) // 2, 0, height - side))
    first_column = int(np.clip((left + right - side) // 2, 0, width - side))
    return slice(first_row, first_row + side), slice(first_column, first_column + side)


def data_uri(pixels: ImageArray) -> str:
    """Return an RGB image (height, width, 3) as a WebP data URI."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise InputError(f"a picture has shape (height, width, 3), got {pixels.shape}; pass an RGB image")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", quality=WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
