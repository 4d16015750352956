"""Data sets in the layout of PASCAL VOC 2012: images, label maps and split lists in their own folders."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from densessl.data.images import IMAGE_SUFFIXES, find_by_stem
from densessl.data.label_maps import read_label_map
from densessl.data.sbd import SBD_ADDRESS, SbdFolder, find_sbd, read_sbd_label_map
from densessl.errors import InputError, MissingInputError
from densessl.structures import IGNORE, ImageRef, ImageSet, LabelMap

VOC_CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

VOC_ADDRESS = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"

VOC_LAYOUT = (
    "JPEGImages/<image>.jpg, SegmentationClass/<image>.png and ImageSets/Segmentation/<split>.txt "
    "(directly in the folder, or in VOC2012/ or VOCdevkit/VOC2012/ below it)"
)

_AUGMENTED_SPLITS = ("train_aug", "trainaug")
_MAX_DEPTH = 3


@dataclass(frozen=True)
class VocTree:
    """One tree in the VOC layout: its folder, its class names, and SBD where it lies beside it."""

    root: Path
    class_names: tuple[str, ...]
    sbd: SbdFolder | None

    @property
    def images(self) -> Path:
        return self.root / "JPEGImages"

    def list_path(self, split: str) -> Path:
        return self.root / "ImageSets" / "Segmentation" / f"{split}.txt"


@dataclass(frozen=True)
class VocLabels:
    """Reads the label maps of a VOC tree: from the first PNG folder that has the image, then from SBD."""

    folders: tuple[Path, ...]
    sbd: SbdFolder | None
    num_classes: int

    def source(self, ref: ImageRef) -> Path | None:
        """Return the file that holds the label map of an image, `None` where there is none."""
        candidates = [folder / f"{ref.stem}.png" for folder in self.folders]
        if self.sbd is not None:
            candidates.append(self.sbd.label_path(ref.stem))
        return next((path for path in candidates if path.is_file()), None)

    def __call__(self, ref: ImageRef) -> LabelMap:
        """Return the label map (height, width); raises `MissingInputError` or `InputError` for this image
        only."""
        path = self.source(ref)
        if path is None:
            folders = (*self.folders, *(() if self.sbd is None else (self.sbd.root / "cls",)))
            raise MissingInputError(
                f"no label of image {ref.stem} in {' or '.join(map(str, folders))}; "
                f"put {ref.stem}.png there or take the image off the split"
            )
        label_map = read_sbd_label_map(path) if path.suffix == ".mat" else read_label_map(path)
        low, high = int(label_map.min()), int(label_map.max(initial=0, where=label_map != IGNORE))
        if low < 0 or high >= self.num_classes:
            raise InputError(
                f"label file {path} holds the value {low if low < 0 else high}; values must be 0-"
                f"{self.num_classes - 1} or {IGNORE} (void): correct it or list more names in class_names.txt"
            )
        return label_map


def open_voc(root: Path, split: str) -> ImageSet:
    """Return one split of a tree in the VOC layout as an image set.

    `root` is the tree itself or a folder above it (`VOCdevkit/VOC2012` is found). A `class_names.txt` beside
    `ImageSets` (one name a line, background first) replaces the 21 names of VOC.

    `train_aug`: label maps come from `SegmentationClassAug`, then `SegmentationClass`, then SBD's `cls/*.mat`
    (`SBD/` or `benchmark_RELEASE/dataset/` in the tree or up to two folders above). Without a `train_aug.txt`
    the list is (train + SBD train + SBD val) minus val.

    `labels` is `None` where no image of the split has a label map. An image that is listed but absent stays
    in the set, and reading it raises `MissingInputError`; a set without any image file is refused.

    Raises `MissingInputError` for a missing tree, split list or image folder, and `InputError` for an empty
    list or one that names an image twice.
    """
    tree = open_voc_tree(root)
    listed = read_split(tree, split)
    if not listed:
        raise InputError(f"split {split} of {tree.root} is empty; write one image name a line into its list")
    repeated = repeated_names(listed)
    if repeated:
        raise InputError(
            f"split {split} of {tree.root} names image {repeated[0]} twice ({len(repeated)} such); "
            "list every image once"
        )
    found = find_by_stem(tree.images, listed)
    if not found:
        raise MissingInputError(
            f"none of the {len(listed)} images of split {split} is in {tree.images}; expected {VOC_LAYOUT}"
        )
    images = tuple(ImageRef(stem, found.get(stem, tree.images / f"{stem}.jpg")) for stem in sorted(listed))
    labels = voc_labels(tree, split)
    has_labels = labels is not None and any(labels.source(ref) for ref in images)
    return ImageSet(split, images, tree.class_names, labels if has_labels else None)


def find_voc_tree(root: Path) -> Path | None:
    """Return the folder at or up to three levels below `root` that holds `ImageSets/Segmentation`, if any.

    The nearest level wins; on one level, a folder named VOC2012. Raises `InputError` where several remain.
    """
    level = [root]
    for _ in range(_MAX_DEPTH + 1):
        trees = [folder for folder in level if (folder / "ImageSets" / "Segmentation").is_dir()]
        if len(trees) > 1:
            trees = [folder for folder in trees if folder.name == "VOC2012"] or trees
        if len(trees) > 1:
            raise InputError(f"{root} holds several VOC trees ({', '.join(map(str, trees))}); give one of them")
        if trees:
            return trees[0]
        level = [child for folder in level for child in _folders_in(folder)]
    return None


def open_voc_tree(root: Path) -> VocTree:
    """Find the VOC tree at or below `root` and read its class names; `MissingInputError` where there is
    none."""
    folder = find_voc_tree(root)
    if folder is None:
        raise MissingInputError(f"no VOC tree at {root}; expected {VOC_LAYOUT}")
    bases = dict.fromkeys((root, folder, folder.parent, root.parent, folder.parent.parent))
    return VocTree(folder, _read_class_names(folder), find_sbd(bases))


def voc_splits(tree: VocTree) -> tuple[str, ...]:
    """Return the names of the splits that can be opened, sorted; `train_aug` where SBD's lists can make
    it."""
    listed = {path.stem for path in (tree.root / "ImageSets" / "Segmentation").glob("*.txt")}
    if not listed & set(_AUGMENTED_SPLITS) and not _missing_for_augmentation(tree):
        listed.add("train_aug")
    return tuple(sorted(listed))


def read_split(tree: VocTree, split: str) -> tuple[str, ...]:
    """Return the image stems of a split in the order of its list, repeated ones included.

    Lines may also have the form `/JPEGImages/<image>.jpg /SegmentationClassAug/<image>.png`.
    """
    path = tree.list_path(split)
    if path.is_file():
        return _read_list(path)
    if split == "train_aug":
        return _augmented_list(tree)
    known = ", ".join(voc_splits(tree)) or "none"
    raise MissingInputError(
        f"no split {split} in {path.parent} (splits there: {known}); choose one or write {path.name}"
    )


def repeated_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that occur more than once, each once, sorted."""
    seen: set[str] = set()
    repeated = {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    return tuple(sorted(repeated))


def voc_labels(tree: VocTree, split: str) -> VocLabels | None:
    """Return the label reader of a split, `None` where the tree has no folder it could read from."""
    is_augmented = split in _AUGMENTED_SPLITS
    names = ("SegmentationClassAug", "SegmentationClass") if is_augmented else ("SegmentationClass",)
    folders = tuple(tree.root / name for name in names if (tree.root / name).is_dir())
    sbd = tree.sbd if is_augmented else None
    if not folders and sbd is None:
        return None
    return VocLabels(folders, sbd, len(tree.class_names))


def _augmented_list(tree: VocTree) -> tuple[str, ...]:
    missing = _missing_for_augmentation(tree)
    if missing:
        raise MissingInputError(
            f"split train_aug of {tree.root} has no list {tree.list_path('train_aug')} and cannot be made "
            f"without {missing}; put SBD (from {SBD_ADDRESS}) beside the tree as SBD/ or write the list"
        )
    sbd = tree.sbd
    lists = [] if sbd is None else [name for path in sbd.lists() for name in _read_list(path)]
    held_out = set(_read_list(tree.list_path("val")))
    return tuple(sorted((set(_read_list(tree.list_path("train"))) | set(lists)) - held_out))


def _missing_for_augmentation(tree: VocTree) -> str:
    needed = [tree.list_path("train"), tree.list_path("val")]
    if tree.sbd is None:
        return "SBD"
    return ", ".join(str(path) for path in (*needed, *tree.sbd.lists()) if not path.is_file())


def _read_list(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"split list {path} is not text ({error}); write one image name a line in UTF-8") from error
    return tuple(_stem_of_line(line.strip(), path) for line in lines if line.strip())


def _stem_of_line(line: str, path: Path) -> str:
    stem = line
    if line.startswith(("/JPEGImages/", "JPEGImages/")):
        stem = line.split()[0].removeprefix("/").removeprefix("JPEGImages/")
    if stem.lower().endswith(IMAGE_SUFFIXES):
        stem = str(PurePosixPath(stem).with_suffix(""))
    if stem.startswith("/") or ".." in PurePosixPath(stem).parts or "\0" in stem:
        raise InputError(f"split list {path} has the line {line!r}; a line is an image name below JPEGImages")
    return stem


def _read_class_names(folder: Path) -> tuple[str, ...]:
    path = folder / "class_names.txt"
    return read_class_names(path) if path.is_file() else VOC_CLASS_NAMES


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read class names, one a line, background first; raises for a missing file, repeated names and too many."""
    if not path.is_file():
        raise MissingInputError(f"no file {path}; expected a text file with one class name a line, background first")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text ({error}); write one class name a line in UTF-8") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not 1 <= len(names) <= IGNORE or len(set(names)) < len(names):
        raise InputError(
            f"{path} holds {len(names)} names, {len(set(names))} of them different; it must hold 1-{IGNORE} "
            "different class names, one a line, background first"
        )
    return names


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:  # not a folder, or not ours to read: no tree there
        return []
    return [folder / name for name in sorted(names)]
