"""Checking a data set file by file: what it holds, what is missing, what is broken."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from densessl.data.coco import COCO_LAYOUT, CocoLabels, coco_splits, open_coco
from densessl.data.images import find_by_stem, list_images, read_image
from densessl.data.sbd import SBD_ADDRESS
from densessl.data.voc import (
    VOC_ADDRESS,
    VOC_CLASS_NAMES,
    VOC_LAYOUT,
    VocLabels,
    VocTree,
    open_voc_tree,
    read_split,
    repeated_names,
    voc_labels,
    voc_splits,
)
from densessl.errors import InputError
from densessl.machine import num_cores
from densessl.structures import ImageRef, LabelReader

Progress = Callable[[int, int], None]
"""Called with the number of images checked and their total."""

_NUM_NAMED = 5


@dataclass(frozen=True)
class SplitCount:
    """How many images a split lists and how many have a label map (`None` where the split has no labels at
    all)."""

    name: str
    num_images: int
    num_labels: int | None


@dataclass(frozen=True)
class DataReport:
    """What a check found: the layout in words, the splits, the faults to mend, and notes that are no
    faults."""

    layout: str
    splits: tuple[SplitCount, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    """One image to decode, with its label map where there is one; `split` names it in faults."""

    split: str
    ref: ImageRef
    labels: LabelReader | None


def check_image_folder(root: Path, progress: Progress | None = None) -> DataReport:
    """Decode every image below a plain folder."""
    images = list_images(root)
    faults = _run([_Task("images", ref, None) for ref in images], progress)
    return DataReport("image folder (no labels)", (SplitCount("images", len(images), None),), faults, ())


def check_voc(root: Path, progress: Progress | None = None) -> DataReport:
    """Check every split of a tree in the VOC layout; files shared by splits are decoded once."""
    try:
        tree = open_voc_tree(root)
    except InputError as error:
        return DataReport("VOC, incomplete", (), _missing_parts(root, str(error)), _where_to_get(("VOC",)))
    counts: list[SplitCount] = []
    faults: list[str] = []
    listed: dict[str, tuple[str, ...]] = {}
    tasks: dict[tuple[str, Path | None], _Task] = {}
    for split in voc_splits(tree):
        try:
            listed[split] = read_split(tree, split)
            count, split_tasks, split_faults = _inspect_voc_split(tree, split, listed[split])
        except InputError as error:
            faults.append(f"{split}: {error}")
            continue
        counts.append(count)
        faults += split_faults
        for key, task in split_tasks.items():
            tasks.setdefault(key, task)
    if not voc_splits(tree):
        faults.append(f"no split list in {tree.list_path('train').parent}; expected {VOC_LAYOUT}")
    is_missing_files = bool(faults)
    broken = _run(_one_task_an_image(tasks), progress)
    notes = _voc_notes(tree, listed, is_missing_files)
    return DataReport(f"VOC ({tree.root})", tuple(counts), (*faults, *broken), notes)


def check_coco(root: Path, progress: Progress | None = None) -> DataReport:
    """Check every split of a tree in the COCO layout."""
    counts: list[SplitCount] = []
    faults: list[str] = []
    notes: list[str] = []
    tasks: list[_Task] = []
    listed: dict[str, tuple[str, ...]] = {}
    if not coco_splits(root):
        faults.append(f"no instances file in {root / 'annotations'}; expected {COCO_LAYOUT}")
    for split in coco_splits(root):
        try:
            image_set = open_coco(root, split)
        except InputError as error:
            faults.append(f"{split}: {error}")
            continue
        listed[split] = tuple(ref.stem for ref in image_set.images)
        missing = [ref.stem for ref in image_set.images if not ref.path.is_file()]
        faults += _missing(split, "image file", missing, len(image_set), root / split)
        tasks += [_Task(split, ref, image_set.labels) for ref in image_set.images if ref.path.is_file()]
        counts.append(SplitCount(split, len(image_set), len(image_set)))
        if isinstance(image_set.labels, CocoLabels) and image_set.labels.num_stray_annotations:
            notes.append(f"{split}: {image_set.labels.num_stray_annotations} annotations are of unlisted images")
    notes += _overlaps(listed)
    return DataReport(f"COCO ({root})", tuple(counts), (*faults, *_run(tasks, progress)), tuple(notes))


def _inspect_voc_split(
    tree: VocTree, split: str, listed: Sequence[str]
) -> tuple[SplitCount, dict[tuple[str, Path | None], _Task], list[str]]:
    """Return the counts of a split, what to decode (by image and label file), and the faults seen without
    decoding."""
    if not listed:
        return (
            SplitCount(split, 0, None),
            {},
            [f"{split}: the list is empty; write one image name a line into it"],
        )
    faults = []
    if repeated := repeated_names(listed):
        faults.append(f"{split}: {len(repeated)} images are listed twice ({_some(repeated)}); list each once")
    stems = sorted(set(listed))
    found = find_by_stem(tree.images, stems)
    faults += _missing(split, "image file", [s for s in stems if s not in found], len(stems), tree.images)
    labels = voc_labels(tree, split)
    refs = [ImageRef(stem, found.get(stem, tree.images / f"{stem}.jpg")) for stem in stems]
    sources = {ref.stem: labels.source(ref) if labels is not None else None for ref in refs}
    num_labels = sum(source is not None for source in sources.values())
    if labels is not None and (num_labels or split != "test"):
        unlabelled = [stem for stem in stems if sources[stem] is None]
        faults += _missing(split, "label map", unlabelled, len(stems), _label_folder(tree, labels))
    tasks = {
        (ref.stem, sources[ref.stem]): _Task(split, ref, labels if sources[ref.stem] else None)
        for ref in refs
        if ref.stem in found
    }
    return SplitCount(split, len(stems), num_labels or None), tasks, faults


def _one_task_an_image(tasks: dict[tuple[str, Path | None], _Task]) -> list[_Task]:
    """Leave out the tasks without labels of images that another split reads with labels."""
    labelled = {stem for stem, source in tasks if source is not None}
    return [task for (stem, source), task in tasks.items() if source is not None or stem not in labelled]


def _run(tasks: Sequence[_Task], progress: Progress | None) -> tuple[str, ...]:
    """Decode images and label maps in threads (decoders release the interpreter lock); returns the faults in
    order."""
    faults: list[str] = []
    with ThreadPoolExecutor(max_workers=num_cores()) as pool:
        for done, found in enumerate(pool.map(_decode, tasks), start=1):
            faults += found
            if progress is not None:
                progress(done, len(tasks))
    return tuple(dict.fromkeys(faults))


def _decode(task: _Task) -> list[str]:
    faults = []
    image_size = label_size = None
    try:
        image_size = read_image(task.ref.path).shape[:2]
    except InputError as error:
        faults.append(f"{task.split}: {error}")
    if task.labels is not None:
        try:
            label_size = task.labels(task.ref).shape
        except InputError as error:
            faults.append(f"{task.split}: {error}")
    if image_size is not None and label_size is not None and image_size != label_size:
        faults.append(
            f"{task.split}: label map of {task.ref.stem} is {label_size[0]} x {label_size[1]}, its image "
            f"{image_size[0]} x {image_size[1]} (height x width); they must be of one size"
        )
    return faults


def _missing(split: str, thing: str, stems: Sequence[str], total: int, folder: Path) -> list[str]:
    if not stems:
        return []
    return [f"{split}: {len(stems):,} of {total:,} images have no {thing} in {folder} ({_some(stems)})"]


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _NUM_NAMED:,} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + rest


def _label_folder(tree: VocTree, labels: VocLabels) -> Path:
    return labels.folders[0] if labels.folders else tree.root


def _missing_parts(root: Path, problem: str) -> tuple[str, ...]:
    parts = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    trees = [root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"]
    best = max(trees, key=lambda tree: sum((tree / part).is_dir() for part in parts))
    missing = [part for part in parts if not (best / part).is_dir()]
    return (problem, *(f"no folder {best / part}" for part in missing))


def _voc_notes(tree: VocTree, listed: dict[str, tuple[str, ...]], is_missing_files: bool) -> tuple[str, ...]:
    notes = _overlaps(listed)
    if tree.class_names != VOC_CLASS_NAMES:
        return (f"{len(tree.class_names)} class names from class_names.txt", *notes)
    wanted = ["VOC"] if is_missing_files else []
    if not {"train_aug", "trainaug"} & set(listed):
        notes.append("no split train_aug (train and SBD without val): neither its list nor SBD is there")
        wanted.append("SBD")
    return (*notes, *_where_to_get(wanted))


def _where_to_get(wanted: Iterable[str]) -> tuple[str, ...]:
    pages = {
        "VOC": f"PASCAL VOC 2012 is to be had from its own page, {VOC_ADDRESS} (torchvision users have found that host "
        "unreachable since about November 2025); nothing is downloaded by this check",
        "SBD": f"SBD is to be had from its own page, {SBD_ADDRESS}; unpack it beside the tree as SBD/ or "
        "benchmark_RELEASE/",
    }
    return tuple(pages[name] for name in wanted)


def _overlaps(listed: dict[str, tuple[str, ...]]) -> list[str]:
    """Return a note for every training split, trainval too, that shares images with a validation split."""
    notes = []
    held_out = [split for split in listed if split.startswith(("val", "test"))]
    for split in listed:
        if not split.startswith("train"):
            continue
        for other in held_out:
            shared = sorted(set(listed[split]) & set(listed[other]))
            if shared:
                meant = ", as the name says: fit to one, and the other is no test" if split == "trainval" else ""
                notes.append(f"{split} and {other} share {len(shared):,} images ({_some(shared)}){meant}")
    return notes
