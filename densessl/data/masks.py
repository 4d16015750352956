"""Reading masks made by anyone: 0/1, 0/255, any two values, ids, palette labels, or soft maps of 8, 16 or 32
bits.

One file alone can be ambiguous (an all-255 file: foreground everywhere, or void?), so a folder's encoding is
settled once, from many of its files; the rules stand at `densessl.data.mask_encodings.settle_encoding`.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.data.images import IMAGE_SUFFIXES, find_by_stem
from densessl.data.mask_encodings import (
    MAX_16_BIT,
    MAX_GREY_ID,
    MaskCode,
    MaskEncoding,
    MaskFile,
    load_mask_file,
    settle_encoding,
    trace_mask,
)
from densessl.errors import InputError, MissingInputError
from densessl.structures import ImageRef, InstanceMap, MaskArray

NUM_JUDGED_FILES = 256
"""How many files of a folder are looked at to settle its encoding, spread evenly over it."""

SALIENCY_RECORD = "saliency.json"
"""In a folder that `saliency` wrote."""

SEGMENT_RECORD = "segment.json"
"""In a folder that `segment` wrote: its maps hold numbers of masks, however few."""

FILTER_RECORD = "filtered.json"
"""In a folder that `filter_masks` wrote."""

THRESHOLD = 0.5
"""Soft values above this are foreground."""


@dataclass(frozen=True)
class MaskReading:
    """One mask as read from a file.

    `soft` lies in [0, 1] (0 and 1 for hard masks), `foreground` is `soft > 0.5`. `instances` holds the ids as
    stored (classes or instances, 0 background) where the encoding has ids, else `None`. `num_void_px` counts
    void pixels, which are background in all three.
    """

    soft: NDArray[np.float32]  # (height, width)
    foreground: MaskArray
    instances: InstanceMap | None
    encoding: MaskEncoding
    num_void_px: int = 0


@dataclass(frozen=True)
class MaskFolder:
    """The masks of a list of images: one encoding for all, a file for each stem, and the stems without
    one.

    num_judged: files by which the encoding was settled, 0 where a record told it.
    record: name of the file that told it.
    """

    folder: Path
    code: MaskCode
    missing: tuple[str, ...]
    num_judged: int
    files: Mapping[str, Path] = field(repr=False)
    record: str | None = None

    @property
    def encoding(self) -> MaskEncoding:
        return self.code.name

    def read(
        self, ref: ImageRef, size: tuple[int, int] | None = None, reduced_to: tuple[int, int] | None = None
    ) -> MaskReading:
        """Read the mask of an image; `size` is the (height, width) it must have, if given.

        With `reduced_to`, a (height, width), the samples are then reduced to the nearest ones.

        Raises `MissingInputError` where the image has no mask, `InputError` where the file is broken, of
        another size, or contradicts the folder's encoding.
        """
        path = self.files.get(ref.stem)
        if path is None:
            raise MissingInputError(f"image {ref.stem} has no mask in {self.folder}; add {ref.stem}.png there")
        mask = load_mask_file(path)
        _check_size(mask, size)
        if reduced_to is not None:
            mask = replace(mask, values=nearest_pixels(mask.values, reduced_to))
        return _interpret(mask, self.code)

    def only(self, refs: Iterable[ImageRef]) -> "MaskFolder":
        """Return the masks of some of the images, which a process can be sent without the others."""
        stems = [ref.stem for ref in refs]
        files = {stem: self.files[stem] for stem in stems if stem in self.files}
        return replace(self, missing=tuple(stem for stem in stems if stem not in files), files=files)

    def describe(self) -> str:
        """Return one line that says how many masks there are and how they are read."""
        num_images = len(self.files) + len(self.missing)
        how = f"judged by {self.num_judged:,} files" if self.record is None else f"as {self.record} tells"
        return f"masks for {len(self.files):,} of {num_images:,} images in {self.folder}, read as {self.code} ({how})"


def read_mask(path: Path, size: tuple[int, int] | None = None) -> MaskReading:
    """Read one mask file, its encoding judged by this file alone; `size` is the (height, width) it must have.

    An all-background mask is legal. Raises `MissingInputError` where there is no file, `InputError` where it
    is broken, shows colours or has another size. For many files use `open_mask_folder`, which judges them
    together.
    """
    mask = load_mask_file(path)
    _check_size(mask, size)
    return _interpret(mask, settle_encoding([trace_mask(mask)]))


def open_mask_folder(folder: Path, images: Iterable[ImageRef]) -> MaskFolder:
    """Find the mask of each image in `folder` (or `folder/masks`, as `densessl saliency` writes).

    A mask has the stem of its image and any image suffix. The encoding is settled from at most
    `NUM_JUDGED_FILES` files (all, where those are empty); broken ones do not count, and raise when they are
    read. The maps of `segment`, and the masks and soft maps of `saliency`, are known by their records.

    Raises `MissingInputError` for a missing folder; `InputError` where no image has a mask, a stem has two, no mask is
    readable, or the files contradict each other.
    """
    if not folder.is_dir():
        raise MissingInputError(
            f"no mask folder {folder}; expected one mask per image there, named like the image: <image>.png"
        )
    refs = tuple(images)
    files = _find_masks(folder, refs)
    if not files:
        names = ", ".join(ref.stem for ref in refs[:3]) + (", ..." if len(refs) > 3 else "")
        raise InputError(
            f"images without masks: none of the {len(refs)} images ({names}) "
            f"has a mask in {folder} or {folder / 'masks'}; name each mask like its image, with a suffix of "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    missing = tuple(ref.stem for ref in refs if ref.stem not in files)
    known = _code_by_record(files.values())
    if known is not None:
        record, code = known
        return MaskFolder(folder, code, missing, 0, files, record)
    paths = tuple(files.values())
    judged = paths[:: -(-len(paths) // NUM_JUDGED_FILES)]
    code, num_judged = judge_encoding(judged)
    if code.name == "all background" and len(judged) < len(paths):
        code, num_judged = judge_encoding(paths)
    return MaskFolder(folder, code, missing, num_judged, files)


def no_masks(folder: Path, images: Iterable[ImageRef]) -> MaskFolder:
    """Return a folder of `saliency` in which no image has a mask."""
    return MaskFolder(
        folder, MaskCode("binary 0/255", high=255), tuple(ref.stem for ref in images), 0, {}, SALIENCY_RECORD
    )


def _code_by_record(paths: Iterable[Path]) -> tuple[str, MaskCode] | None:
    """Return which record tells the encoding of files that `segment` or `saliency` wrote, and the encoding.

    None where no record does, or where some of the files lie elsewhere.
    """
    known = {_code_of_folder(kind) for kind in {_folder_of_kind(path) for path in paths}}
    return known.pop() if len(known) == 1 else None


def _folder_of_kind(path: Path) -> Path:
    """Return the innermost folder `masks` or `soft` that a file lies in, however deep; else the folder of the file."""
    return next((parent for parent in path.parents if parent.name in ("masks", "soft")), path.parent)


def _code_of_folder(folder: Path) -> tuple[str, MaskCode] | None:
    if folder.name == "masks" and (folder.parent / SEGMENT_RECORD).is_file():
        return SEGMENT_RECORD, MaskCode("instances", high=MAX_16_BIT)
    if folder.name in ("masks", "soft") and (folder.parent / SALIENCY_RECORD).is_file():
        return SALIENCY_RECORD, MaskCode("binary 0/255" if folder.name == "masks" else "soft 8-bit", high=255)
    return None


def judge_encoding(paths: Iterable[Path]) -> tuple[MaskCode, int]:
    """Return the encoding of the readable files and how many those are; raises the first error where none
    is."""
    traces = []
    first_error: InputError | None = None
    for path in paths:
        try:
            traces.append(trace_mask(load_mask_file(path)))
        except InputError as error:
            first_error = first_error or error
    if first_error is not None and not traces:
        raise first_error
    return settle_encoding(traces), len(traces)


def nearest_pixels(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize an array (height, width), uint8, uint16 or float32, to the (height, width) `size`; nearest samples."""
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _find_masks(folder: Path, refs: tuple[ImageRef, ...]) -> dict[str, Path]:
    direct = find_by_stem(folder, (ref.stem for ref in refs))
    own = {ref.stem: ref.path for ref in refs}
    direct = {stem: path for stem, path in direct.items() if not _is_same_file(path, own[stem])}
    nested = find_by_stem(folder / "masks", (stem for stem in own if stem not in direct))
    return {stem: path for stem in own if (path := direct.get(stem, nested.get(stem))) is not None}


def _is_same_file(path: Path, image: Path) -> bool:
    return image.exists() and os.path.samefile(path, image)


def _check_size(mask: MaskFile, size: tuple[int, int] | None) -> None:
    height, width = mask.values.shape
    if size is not None and (height, width) != tuple(size):
        raise InputError(
            f"mask of another size: {mask.path} is {height} x {width}, its image {size[0]} x {size[1]} "
            "(height x width); make the mask at the image's size"
        )


def _interpret(mask: MaskFile, code: MaskCode) -> MaskReading:
    _check_fits(mask, code)
    if code.name in ("instances", "palette labels"):
        is_void = np.zeros(mask.values.shape, dtype=np.bool_) if code.void is None else mask.values == code.void
        ids = np.where(is_void, 0, mask.values).astype(np.int64)
        foreground = ids > 0
        return MaskReading(foreground.astype(np.float32), foreground, ids, code.name, int(is_void.sum()))
    if mask.kind == "float":
        soft = mask.values.astype(np.float32)
    elif code.name == "two values":
        soft = (mask.values == code.high).astype(np.float32)
    else:
        soft = (mask.values / np.float32(code.high)).astype(np.float32)
    return MaskReading(soft, soft > THRESHOLD, None, code.name)


def _check_fits(mask: MaskFile, code: MaskCode) -> None:
    """Raise `InputError` where a file that was not looked at contradicts its folder's encoding."""
    values = mask.values
    high = float(values.max())
    if high == 0 and code.name != "two values":
        return
    if mask.kind == "float" or code.name == "soft float":
        fits = code.name == "soft float" and high <= 1
    elif (mask.kind == "alpha") != (code.name == "alpha channel"):
        fits = False
    elif code.name in ("binary 0/1", "binary 0/255", "two values"):
        fits = bool(((values == code.low) | (values == code.high)).all())
    elif code.name in ("instances", "palette labels"):
        limit = code.high if "palette" in mask.kind or code.name == "instances" else MAX_GREY_ID
        fits = bool(((values <= limit) | (values == (-1 if code.void is None else code.void))).all())
    else:
        fits = high <= code.high and (mask.kind == "16-bit") == (code.name == "soft 16-bit")
    if not fits:
        raise InputError(
            f"mask {mask.path} ({mask.kind}, values up to {high:g}) does not fit the other masks, which are "
            f"{code}; write all masks in one way"
        )
