"""Opening image files of any origin with Pillow: every way a file can be broken becomes one `InputError`."""

import struct
import zlib
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from densessl.errors import InputError, MissingInputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
"""Formats that are opened, judged by content; formats that run other programs (EPS) are not among them."""

MAX_IMAGE_PIXELS = 150_000_000
"""Images of more pixels (450 MB as RGB) are refused, so that a small hostile file cannot fill the memory."""

_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow's decoders have been seen to raise on damaged files."""


def decode_image(path: Path, thing: str = "image", at_least: tuple[int, int] | None = None) -> Image.Image:
    """Return the first frame of an image file with its pixels loaded and its EXIF orientation applied.

    `thing` names the file's role in errors. With `at_least`, a (height, width), a JPEG is decoded at the smallest of
    1, 1/2, 1/4 and 1/8 of its size that is no smaller, which takes a fraction of the time.

    Raises `MissingInputError` where there is no file and `InputError` where it is empty, truncated, broken, in another
    format, or larger than `MAX_IMAGE_PIXELS`.
    """
    _check_is_file(path, thing)
    try:
        with open(path, "rb") as handle:
            image = _open(path, handle, thing)
            if at_least is not None and image.format in ("JPEG", "MPO"):
                is_turned = _orientation(image, handle) in (5, 6, 7, 8)
                image.draft(None, at_least if is_turned else at_least[::-1])  # type: ignore[arg-type]
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except InputError:
        raise
    except _BROKEN as error:
        raise _unreadable(path, thing, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """Return the (height, width) that `decode_image` would give, EXIF applied, from the header alone.

    Raises as `decode_image` does, but cannot see damage behind the header.
    """
    _check_is_file(path, "image")
    try:
        with open(path, "rb") as handle:
            image = _open(path, handle, "image")
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):  # Pillow's versions differ on `size`
                width, height = int(image.tag_v2[256]), int(image.tag_v2[257])
            is_turned = _orientation(image, handle) in (5, 6, 7, 8)
    except InputError:
        raise
    except _BROKEN as error:
        raise _unreadable(path, "image", error) from error
    return (width, height) if is_turned else (height, width)


def _open(path: Path, handle: IO[bytes], thing: str) -> Image.Image:
    image = Image.open(handle, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        raise InputError(
            f"{thing} {path} has {height} x {width} pixels, more than the {MAX_IMAGE_PIXELS:,} allowed; "
            "cut it into tiles or make it smaller"
        )
    return image


def _orientation(image: Image.Image, handle: IO[bytes]) -> int:
    """Return the EXIF orientation, 1-8; decodes pixels only where a PNG keeps its metadata behind them."""
    if image.format == "PNG":
        if _has_metadata_after_pixels(handle):
            image.load()
        elif not {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & set(image.info):
            return 1  # Pillow's getexif would decode the whole image to look for a later chunk
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _has_metadata_after_pixels(handle: IO[bytes]) -> bool:
    """Walk the chunk headers of a PNG file; leaves the file where it was."""
    start = handle.tell()
    handle.seek(8)
    seen_pixels = found = False
    while not found and len(header := handle.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        seen_pixels = seen_pixels or kind == b"IDAT"
        found = seen_pixels and kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt")
        handle.seek(length + 4, 1)
    handle.seek(start)
    return found


def _check_is_file(path: Path, thing: str) -> None:
    if not path.exists():
        raise MissingInputError(f"no {thing} file {path}; put it there or take it off the list")
    if not path.is_file():
        raise InputError(f"{thing} {path} is a folder, not a file; give the path of one file")
    if path.stat().st_size == 0:
        raise InputError(f"{thing} {path} is empty (0 bytes); copy it again or remove it")


def _unreadable(path: Path, thing: str, error: BaseException) -> InputError:
    if isinstance(error, Image.UnidentifiedImageError):
        reason = f"not one of the formats {', '.join(FORMATS)}, or its header is damaged"
    elif isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        reason = f"more than the {MAX_IMAGE_PIXELS:,} pixels allowed"
    else:
        reason = str(error) or type(error).__name__
    return InputError(f"{thing} {path} cannot be read ({reason}); copy it again, convert it or remove it")
