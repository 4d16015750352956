"""The ground truth of saliency: a folder of masks or label maps as an image set, and which pixels are foreground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from densessl.data.label_maps import read_label_map
from densessl.data.mask_encodings import MaskCode, load_mask_file
from densessl.data.masks import judge_encoding
from densessl.errors import InputError
from densessl.evaluation.label_map_folders import label_map_paths
from densessl.evaluation.scores import check_classes
from densessl.structures import ImageRef, ImageSet, LabelMap, LabelReader, MaskArray

LabelKind = Literal["auto", "ids"]

_ID_ENCODINGS = ("instances", "palette labels")
_HARD_ENCODINGS = ("binary 0/1", "binary 0/255", "two values", "all background")
_GREY_FOREGROUND = 128.5 / 255  # above 128 of 255, as the field's evaluation code cuts masks with grey edges


@dataclass(frozen=True)
class MaskLabels:
    """Reads ground-truth files as label maps: class ids as they are, masks as 0 and 1, or 2 where 1 is ignored.

    A `LabelReader`. `code` says how the files are written; `None`: as class ids, whatever their values.
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
        foreground = 2 if self.ignore_index == 1 else 1
        if self.code.name in _HARD_ENCODINGS:
            return np.where(mask.values == self.code.high, foreground, 0).astype(np.int64)
        high = 1.0 if mask.kind == "float" else float(self.code.high)
        labels = np.where(mask.values / high > _GREY_FOREGROUND, foreground, 0).astype(np.int64)
        if self.code.name == "soft 8-bit" and self.ignore_index not in (0, 1, self.code.high):
            labels[mask.values == self.ignore_index] = self.ignore_index
        return labels

    @property
    def has_classes(self) -> bool:
        """Whether the values are class ids."""
        return self.code is None or self.code.name in _ID_ENCODINGS

    def __str__(self) -> str:
        if self.code is None:
            return "class ids"
        if self.code.name in _ID_ENCODINGS:
            return f"class ids ({self.code.name})"
        return f"masks ({self.code.name})"


@dataclass(frozen=True)
class ChosenClasses:
    """Reads label maps in which only 0 and some classes count: all other labels become `ignore_index`."""

    labels: LabelReader
    classes: tuple[int, ...]
    ignore_index: int

    def __call__(self, ref: ImageRef) -> LabelMap:
        """Return the label map (height, width) of an image."""
        label_map = self.labels(ref)
        return np.where(np.isin(label_map, (0, *self.classes)), label_map, self.ignore_index)

    @property
    def rule(self) -> str:
        """Which labels count, in words."""
        return f"of which {', '.join(map(str, self.classes))} are foreground and others but 0 ignored"

    def __str__(self) -> str:
        return f"{self.labels}, {self.rule}"


def only_classes(truth: ImageSet, classes: tuple[int, ...], ignore_index: int) -> ImageSet:
    """Return the set with labels in which only the background and `classes` count; others are ignored.

    Raises `InputError` where the set has no labels, or masks without classes, and where a class is negative, the
    ignore index or none of the set's.
    """
    if truth.labels is None:
        raise InputError(f"{truth.name} has no labels, so no classes can be chosen from them")
    if isinstance(truth.labels, MaskLabels) and not truth.labels.has_classes:
        raise InputError(
            f"{truth.name} is read as {truth.labels}, which have no classes to choose; where its values are class ids, "
            "say so with --label_kind ids"
        )
    if truth.class_names:
        check_classes(classes, len(truth.class_names))
    wrong = [index for index in classes if index < 0 or index == ignore_index]
    if wrong:
        raise InputError(
            f"class {wrong[0]} cannot be scored: classes are 0 or more and not the ignore index {ignore_index}; take "
            "it off the list of classes"
        )
    return replace(truth, labels=ChosenClasses(truth.labels, classes, ignore_index))


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
