"""How masks made by anyone are written: what one file shows, and which encoding fits a set of files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densessl.data.decoding import decode_image
from densessl.errors import InputError

MaskEncoding = Literal[
    "all background",
    "binary 0/1",
    "binary 0/255",
    "two values",
    "instances",
    "palette labels",
    "soft 8-bit",
    "soft 16-bit",
    "soft float",
    "alpha channel",
]

MAX_GREY_ID = 63
"""Greyscale 8-bit values up to here are taken as ids where no other value but 255 occurs; above, as a soft
map."""

MAX_GREY_ID_16_BIT = 1023
"""The same for 16-bit files; 1023 would be 1.6 % of their range."""

MAX_16_BIT = 65535

VOID = 255

_VOC_VOID_COLOUR = (224, 224, 192)
_LOSSY_SLACK = 16  # JPEG noise around 0 and 255
_LOSSY_SHARE = 0.97
_MAX_KEPT_VALUES = 1200


@dataclass(frozen=True)
class MaskFile:
    """The samples of one mask file, (height, width), and what kind of file it is."""

    path: Path
    values: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32] = field(repr=False)
    kind: Literal["8-bit", "16-bit", "float", "palette", "VOC palette", "alpha"]
    is_lossy: bool


@dataclass(frozen=True)
class MaskTrace:
    """What one file tells of its folder's encoding; `values` are its distinct samples (at most 1,200 of
    them)."""

    path: Path
    kind: str
    is_lossy: bool
    values: frozenset[int]


@dataclass(frozen=True)
class MaskCode:
    """An encoding that was settled: its name, the background and foreground values, and the void value if
    any."""

    name: MaskEncoding
    low: int = 0
    high: int = 1
    void: int | None = None

    def __str__(self) -> str:
        if self.name == "two values":
            return f"two values ({self.low} background, {self.high} foreground)"
        if self.void is not None:
            return f"{self.name} (0 background, {self.void} void, which counts as background)"
        return self.name


def load_mask_file(path: Path) -> MaskFile:
    """Decode a mask file; raises `InputError` where it is broken or shows colours."""
    image = decode_image(path, "mask")
    is_lossy = image.format in ("JPEG", "MPO")
    if image.mode == "P":
        colours = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        if not (colours == colours[:, :1]).all():
            is_voc = len(colours) == 256 and tuple(colours[VOID]) == _VOC_VOID_COLOUR
            return MaskFile(path, np.asarray(image), "VOC palette" if is_voc else "palette", is_lossy)
        image = image.convert("L")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        alpha = np.asarray(image.getchannel(image.getbands()[-1]))
        if alpha.min() < alpha.max():
            return MaskFile(path, alpha, "alpha", is_lossy)
        image = image.convert("RGB")
    if image.mode == "RGB":
        return MaskFile(path, _snap_lossy(_grey_of_rgb(image, path, is_lossy), is_lossy), "8-bit", is_lossy)
    if image.mode in ("1", "L"):
        return MaskFile(path, _snap_lossy(np.asarray(image).astype(np.uint8), is_lossy), "8-bit", is_lossy)
    if image.mode.startswith("I") or image.mode == "F":
        return _load_deep(np.asarray(image), path, is_lossy)
    raise InputError(f"mask {path} has mode {image.mode}; save it as greyscale or palette PNG")


def trace_mask(mask: MaskFile) -> MaskTrace:
    """Return what a mask file tells of its folder's encoding."""
    if mask.values.dtype == np.uint8:
        distinct = np.bincount(mask.values.ravel(), minlength=256).nonzero()[0]
    elif mask.kind == "float":
        distinct = np.empty(0, dtype=np.int64)
    else:
        distinct = np.unique(mask.values)
    kept = distinct if len(distinct) <= _MAX_KEPT_VALUES else np.append(distinct[:_MAX_KEPT_VALUES], distinct[-1])
    return MaskTrace(mask.path, mask.kind, mask.is_lossy, frozenset(int(value) for value in kept))


def settle_encoding(traces: Sequence[MaskTrace]) -> MaskCode:
    """Return the one encoding that fits all the given files.

    Files that are all 0 tell nothing. Of the rest, the first rule that fits their values taken together:

    1. floating point -> soft float; varying transparency -> alpha channel;
    2. only 0 and 1 -> binary 0/1; only 0 and 255 (not in VOC's palette) -> binary 0/255;
    3. a colour palette in any file -> palette labels: 0 background, 255 void, the rest ids;
    4. exactly two values -> the larger is foreground;
    5. up to 63 (16-bit: 1023), and perhaps 255 -> ids, 255 void;
    6. anything else -> a soft map over the whole range of its bit depth.

    Raises `InputError` where files contradict each other, or where ids were saved as JPEG.
    """
    telling = [trace for trace in traces if trace.values != {0}]
    if not telling:
        return MaskCode("all background")
    if any(trace.kind == "float" for trace in telling):
        _require_one_kind(telling, "float")
        return MaskCode("soft float")
    if any(trace.kind == "alpha" for trace in telling):
        _require_one_kind(telling, "alpha")
        return MaskCode("alpha channel", high=VOID)
    values = frozenset().union(*(trace.values for trace in traces))  # with the 0 of empty masks
    return _settle_integers(telling, values)


def _settle_integers(telling: Sequence[MaskTrace], values: frozenset[int]) -> MaskCode:
    has_palette = any("palette" in trace.kind for trace in telling)
    if values <= {0, 1} and not has_palette:
        _refuse_lossy_ids(telling)
        return MaskCode("binary 0/1")
    if values <= {0, VOID} and all(trace.kind != "VOC palette" for trace in telling):
        return MaskCode("binary 0/255", high=VOID)
    _refuse_mixed_binary(telling, values)
    if has_palette:
        _refuse_soft_among_labels(telling)
        return MaskCode("palette labels", high=VOID - 1, void=VOID)
    if len(values) == 2:
        return MaskCode("two values", min(values), max(values))
    is_deep = any(trace.kind == "16-bit" for trace in telling)
    limit = MAX_GREY_ID_16_BIT if is_deep else MAX_GREY_ID
    if max(values - {VOID}) <= limit:
        _refuse_lossy_ids(telling)
        has_void = max(values) <= VOID and VOID - 1 not in values
        return MaskCode("instances", high=limit, void=VOID if has_void else None)
    if is_deep:
        _require_one_kind(telling, "16-bit")
    return MaskCode("soft 16-bit", high=MAX_16_BIT) if is_deep else MaskCode("soft 8-bit", high=VOID)


def _grey_of_rgb(image: Image.Image, path: Path, is_lossy: bool) -> NDArray[np.uint8]:
    rgb = np.asarray(image)
    spread = int((rgb.max(axis=2) - rgb.min(axis=2)).max())
    if spread > (_LOSSY_SLACK if is_lossy else 0):
        raise InputError(
            f"mask {path} shows colours (channels differ by up to {spread}); "
            "save masks as greyscale or palette PNG, one value per pixel"
        )
    return rgb[:, :, 1]


def _snap_lossy(values: NDArray[np.uint8], is_lossy: bool) -> NDArray[np.uint8]:
    """Return a black-and-white JPEG as 0 and 255; other files as they are."""
    if not is_lossy or values.max() < VOID - _LOSSY_SLACK:
        return values
    is_plain = (values <= _LOSSY_SLACK) | (values >= VOID - _LOSSY_SLACK)
    if is_plain.mean() < _LOSSY_SHARE:
        return values
    return np.where(values >= 128, VOID, 0).astype(np.uint8)


def _load_deep(values: NDArray[np.generic], path: Path, is_lossy: bool) -> MaskFile:
    samples = values.astype(np.float64)
    low, high = float(samples.min()), float(samples.max())  # NaN anywhere makes both NaN
    if not (low >= 0 and high <= MAX_16_BIT):
        raise InputError(
            f"mask {path} has values from {low:g} to {high:g}; they must lie in 0-65535, or 0-1 for soft maps"
        )
    is_integral = bool((samples == np.rint(samples)).all())
    if values.dtype.kind == "f" and (high <= 1 or not is_integral):
        if high > 1:
            raise InputError(f"mask {path} is floating point with values up to {high:g}; scale soft maps to 0-1")
        return MaskFile(path, samples.astype(np.float32), "float", is_lossy)
    return MaskFile(path, samples.astype(np.uint16), "16-bit", is_lossy)


def _require_one_kind(telling: Sequence[MaskTrace], kind: str) -> None:
    other = next((trace for trace in telling if trace.kind != kind), None)
    if other is not None:
        same = next(trace for trace in telling if trace.kind == kind)
        raise _mixed(same.path, f"is {kind}", other.path, f"is {other.kind}")


def _refuse_mixed_binary(telling: Sequence[MaskTrace], values: frozenset[int]) -> None:
    """Refuse a folder in which some files are 0/1 and others 0/255, and no file holds both 1 and 255."""
    if not values <= {0, 1, VOID} or any({1, VOID} <= trace.values for trace in telling):
        return
    ones = [trace for trace in telling if 1 in trace.values]
    voids = [trace for trace in telling if VOID in trace.values and "palette" not in trace.kind]
    if ones and voids:
        raise _mixed(ones[0].path, "holds 0/1", voids[0].path, "holds 0/255")


def _refuse_soft_among_labels(telling: Sequence[MaskTrace]) -> None:
    labelled = next(trace for trace in telling if "palette" in trace.kind)
    for trace in telling:
        if "palette" not in trace.kind and max(trace.values - {VOID}, default=0) > MAX_GREY_ID:
            raise _mixed(labelled.path, "holds palette labels", trace.path, f"grey values to {max(trace.values)}")


def _refuse_lossy_ids(telling: Sequence[MaskTrace]) -> None:
    lossy = next((trace for trace in telling if trace.is_lossy), None)
    if lossy is not None:
        raise InputError(
            f"mask {lossy.path} is a JPEG with values up to {max(lossy.values)}; JPEG alters small values, "
            "save masks as PNG"
        )


def _mixed(first: Path, what: str, second: Path, other: str) -> InputError:
    return InputError(
        f"masks are written in different ways: {first} {what}, but {second} {other}; write all in one way"
    )
