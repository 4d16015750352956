"""The ground truth of saliency: a folder of masks or label maps as an image set, and which pixels are foreground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from densessl.data.label_maps import read_label_map
from densessl.data.mask_encodings import MaskCode, load_mask_file
from densessl.data.masks import judge_encoding
from densessl.evaluation.label_map_folders import label_map_paths
from densessl.structures import ImageRef, ImageSet, LabelMap, MaskArray

LabelKind = Literal["auto", "ids"]

_ID_ENCODINGS = ("instances", "palette labels")
_HARD_ENCODINGS = ("binary 0/1", "binary 0/255", "two values", "all background")
_GREY_FOREGROUND = 128.5 / 255  # above 128 of 255, as the field's evaluation code cuts masks with grey edges


@dataclass(frozen=True)
class MaskLabels:
    """Reads ground-truth files as label maps: class ids as they are, masks as 0 and 1 (a `LabelReader`).

    `code` says how the files are written; `None`: as class ids, whatever their values.
    """

    code: MaskCode | None
    ignore_index: int
    files: Mapping[str, Path] = field(repr=False)

    def __call__(self, ref: ImageRef) -> LabelMap:
        """Return the label map (height, width) of an image; raises `InputError` where its file is unusable."""
        path = self.files[ref.stem]
        if self.code is None or self.code.name in _ID_ENCODINGS:
            return read_label_map(path)
        mask = load_mask_file(path)
        if self.code.name in _HARD_ENCODINGS:
            return (mask.values == self.code.high).astype(np.int64)
        high = 1.0 if mask.kind == "float" else float(self.code.high)
        labels = (mask.values / high > _GREY_FOREGROUND).astype(np.int64)
        if self.code.name == "soft 8-bit" and self.ignore_index not in (0, 1, self.code.high):
            labels[mask.values == self.ignore_index] = self.ignore_index
        return labels

    def __str__(self) -> str:
        if self.code is None:
            return "class ids"
        if self.code.name in _ID_ENCODINGS:
            return f"class ids ({self.code.name})"
        return f"masks ({self.code.name})"


def open_truth_folder(
    folder: Path, ignore_index: int, kind: LabelKind = "auto", stems: Sequence[str] | None = None
) -> ImageSet:
    """Return the PNG files below a folder as an image set whose labels are masks (0 and 1) or class ids.

    `kind` auto settles how the files are written from all of them together, by the rules of
    `densessl.data.mask_encodings.settle_encoding`; ids takes their values as class ids, which maps with more than 64
    classes and no colour palette need. Files with grey edges are cut above 128 of 255. With `stems`, only these are
    in the set (those without a file are left out). The images' paths are those of the label files.

    Raises `MissingInputError` where the folder or every file is missing, `InputError` where a stem has two files,
    none is readable, or they contradict each other.
    """
    paths = label_map_paths(folder)
    if stems is not None:
        chosen = set(stems)
        paths = {stem: path for stem, path in paths.items() if stem in chosen}
    code = None if kind == "ids" else judge_encoding(paths.values())[0]
    images = tuple(ImageRef(stem, paths[stem]) for stem in sorted(paths))
    return ImageSet(folder.name, images, labels=MaskLabels(code, ignore_index, paths))


def foreground_of(label_map: LabelMap, ignore_index: int) -> tuple[MaskArray, MaskArray]:
    """Return foreground and valid pixels (height, width): every label but 0 and `ignore_index`, and but the latter."""
    valid = label_map != ignore_index
    return valid & (label_map != 0), valid
