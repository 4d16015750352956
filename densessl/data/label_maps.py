"""Label maps on disk: palette PNGs in the colours of PASCAL VOC."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densessl.data.decoding import decode_image
from densessl.errors import InputError, MissingInputError
from densessl.files import write_atomically
from densessl.structures import IGNORE, LabelMap


def voc_palette() -> NDArray[np.uint8]:
    """Return the 256 RGB colours of PASCAL VOC, (256, 3): bit k of the index feeds bit 7 - k // 3 of channel
    k % 3."""
    index = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def write_label_map(path: Path, label_map: NDArray[np.integer]) -> None:
    """Write a label map (height, width), values 0-255, as a palette PNG, atomically."""
    if label_map.ndim != 2 or label_map.size == 0:
        raise InputError(f"a label map has shape (height, width), got {label_map.shape}")
    low, high = int(label_map.min()), int(label_map.max())
    if low < 0 or high > 255:
        raise InputError(f"label map values must lie in 0-255 to be written as PNG, got {low}-{high}")
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(voc_palette().tobytes())
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))


def read_label_map(path: Path) -> LabelMap:
    """Read a palette or greyscale PNG as a label map (height, width), int64.

    Raises `MissingInputError` where there is no file and `InputError` where it is broken or holds colours
    instead of class indices.
    """
    if not path.is_file():
        raise MissingInputError(f"no label file {path}; expected a palette or greyscale PNG of class indices")
    image = decode_image(path, "label map")
    mode, values = image.mode, np.asarray(image)
    if values.ndim != 2 or mode not in {"P", "L", "1", "I;16", "I;16B", "I"}:
        raise InputError(
            f"label file {path} has mode {mode} and shape {values.shape}; labels must be one class index "
            "per pixel (palette or greyscale PNG)"
        )
    return values.astype(np.int64)


def select_classes(label_map: LabelMap, classes: Sequence[int] | None) -> LabelMap:
    """Return the label map with every class that is not listed mapped to `IGNORE`; `None` keeps all."""
    if classes is None:
        return label_map
    return np.where(np.isin(label_map, list(classes)), label_map, IGNORE)
