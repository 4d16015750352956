"""Score two folders of label maps: pair files by stem and sum one confusion matrix."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from densessl.data.label_maps import read_label_map
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.boundary import boundary_confusion
from densessl.evaluation.coco_evaluation import CocoImage
from densessl.evaluation.confusion import Confusion, ImageCounts, confusion_matrix, highest_prediction, image_counts
from densessl.evaluation.named_maps import NamedMaps, name_maps, names_by_matching
from densessl.evaluation.named_objects import ObjectTruth, objects_of_maps
from densessl.evaluation.scores import Scores
from densessl.structures import ALL_IMAGES, IGNORE, ImageShare

MAX_CLUSTERS = 65536  # ids of a 16-bit PNG; a larger id is a broken file, not a cluster


@dataclass(frozen=True)
class FolderConfusion:
    """The confusion matrix of two folders and how their files paired up.

    confusion: (num_classes, num_predictions) pixel counts.
    stems: the images that were scored, sorted (in the order of the split where one was given).
    labels_without_prediction, predictions_without_label: stems that were left out because their partner is
        missing.
    images: the counts of each of `stems`, where they were kept.
    """

    confusion: Confusion
    stems: tuple[str, ...]
    labels_without_prediction: tuple[str, ...]
    predictions_without_label: tuple[str, ...]
    images: tuple[ImageCounts, ...] = ()


@dataclass(frozen=True)
class PairedStems:
    """The stems that two folders share, and those that only one of them has."""

    stems: tuple[str, ...]
    labels_without_prediction: tuple[str, ...]
    predictions_without_label: tuple[str, ...]


def confusion_of_folders(
    predictions: Path,
    labels: Path,
    num_classes: int,
    *,
    are_clusters: bool = False,
    stems: Sequence[str] | None = None,
    ignore_index: int = IGNORE,
    keep_images: bool = False,
    share: ImageShare = ALL_IMAGES,
) -> FolderConfusion:
    """Sum the confusion matrix over the label maps (PNG) of two folders, read one pair at a time.

    With `stems`, each of them needs a prediction and a label. Without, the stems that both folders have are
    scored, and the result names the others. With `are_clusters`, predictions are cluster ids of any number
    and the matrix has max(num_classes, highest id + 1) columns; otherwise they are classes and it has
    `num_classes`. With `keep_images` the counts of each image are kept too, 12 bytes for each pair of label and
    prediction that it shows: 5 KiB an image at most for 21 classes and clusters. Processes that `share` the images read
    their own ones, and all return the same.

    Raises `MissingInputError` for a missing folder or file, and `InputError` for sizes that differ, for
    values out of range (both name the image), and for folders without a common stem.
    """
    prediction_paths, label_paths = label_map_paths(predictions), label_map_paths(labels)
    if stems is None:
        paired = _common_stems(prediction_paths, label_paths, predictions, labels)
    else:
        paired = _listed_stems(stems, prediction_paths, label_paths, predictions, labels)

    def count_own() -> tuple[Confusion, list[ImageCounts]]:
        total, images = np.zeros((num_classes, num_classes), dtype=np.int64), []
        for stem in share.own(paired.stems):
            pair = (label_paths[stem], prediction_paths[stem])
            counts = _confusion_of_pair(stem, *pair, num_classes, are_clusters, ignore_index)
            total = _add_with_more_columns(total, counts)
            if keep_images:
                images.append(image_counts(counts))
        return total, images

    parts = share.gather(count_own)
    return FolderConfusion(
        reduce(_add_with_more_columns, (total for total, _ in parts)),
        paired.stems,
        paired.labels_without_prediction,
        paired.predictions_without_label,
        tuple(image for _, images in parts for image in images),
    )


@dataclass(frozen=True)
class ScoredFolders:
    """Two folders whose images were scored: what reads them again needs.

    predictions, labels: the folders. folders: what `confusion_of_folders` found. scores: with the matching.
    ignore_index: the label that is ignored. share: the images of this process.
    """

    predictions: Path
    labels: Path
    folders: FolderConfusion
    scores: Scores
    ignore_index: int = IGNORE
    share: ImageShare = ALL_IMAGES

    def named_maps(self) -> Iterator[tuple[str, NamedMaps]]:
        """Yield the stem and the maps of this process's images, after the matching; raises as `label_map_paths`."""
        prediction_paths, label_paths = label_map_paths(self.predictions), label_map_paths(self.labels)
        names = names_by_matching(self.scores, *self.folders.confusion.shape)
        for stem in self.share.own(self.folders.stems):
            label_map, prediction = read_label_map(label_paths[stem]), read_label_map(prediction_paths[stem])
            yield stem, name_maps(label_map, prediction, names, self.ignore_index)


def boundary_confusion_of_folders(scored: ScoredFolders) -> Confusion:
    """Sum `boundary_confusion` over the images, int64 (num_classes + 1, num_classes + 1); reads them again."""
    num_classes = len(scored.scores.classes)

    def count_own() -> Confusion:
        total = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
        for _, maps in scored.named_maps():
            total += boundary_confusion(maps.labels, maps.counted_predictions, num_classes)
        return total

    return np.sum(scored.share.gather(count_own), axis=0)


def objects_of_folders(scored: ScoredFolders, truth: ObjectTruth) -> list[CocoImage]:
    """Return the true and the predicted objects of the images; reads them again."""

    def find_own() -> list[CocoImage]:
        images = []
        for stem, maps in scored.named_maps():
            instances = None if truth.read is None else truth.read(stem)
            images.append(objects_of_maps(maps, scored.scores.classes, instances, stem))
        return images

    return [image for images in scored.share.gather(find_own) for image in images]


def label_map_paths(folder: Path) -> dict[str, Path]:
    """Return the PNG files below `folder` by stem, sorted; raises where there is none or a stem twice."""
    expected = "expected one PNG of class indices per image, <folder>/<stem>.png"
    if not folder.is_dir():
        raise MissingInputError(f"no folder {folder}; {expected}")
    paths: dict[str, Path] = {}
    for path in sorted(_png_files(folder)):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in paths:
            raise InputError(f"{paths[stem]} and {path} have the same stem {stem}; keep one of them")
        paths[stem] = path
    if not paths:
        raise MissingInputError(f"no PNG file below {folder}; {expected}")
    return paths


def read_stems(split_file: Path) -> tuple[str, ...]:
    """Read a split file: one stem per line, blank lines skipped; raises where none or one is listed twice."""
    if not split_file.is_file():
        raise MissingInputError(f"no split file {split_file}; expected a text file with one image stem per line")
    try:
        lines = split_file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"split file {split_file} is not UTF-8 text ({error}); save it as UTF-8") from error
    stems = [line.strip() for line in lines if line.strip()]
    if not stems:
        raise InputError(f"split file {split_file} lists no image; write one stem per line")
    seen: set[str] = set()
    for stem in stems:
        if stem in seen:
            raise InputError(f"split file {split_file} lists {stem} more than once; keep one line")
        seen.add(stem)
    return tuple(stems)


def _png_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.suffix.lower() == ".png" and not path.name.startswith(".") and path.is_file():
            yield path


def _listed_stems(
    stems: Sequence[str],
    prediction_paths: dict[str, Path],
    label_paths: dict[str, Path],
    predictions: Path,
    labels: Path,
) -> PairedStems:
    for name, paths, folder in (
        ("label", label_paths, labels),
        ("prediction", prediction_paths, predictions),
    ):
        missing = [stem for stem in stems if stem not in paths]
        if missing:
            raise MissingInputError(
                f"{len(missing)} of the {len(stems)} listed images have no {name} in {folder} "
                f"({first_few(missing)}); add <stem>.png for each, or take them off the list"
            )
    return PairedStems(tuple(stems), (), ())


def _common_stems(
    prediction_paths: dict[str, Path], label_paths: dict[str, Path], predictions: Path, labels: Path
) -> PairedStems:
    common = tuple(stem for stem in label_paths if stem in prediction_paths)
    if not common:
        raise MissingInputError(
            f"no image has both a prediction and a label: {predictions} holds "
            f"{first_few(list(prediction_paths))}, {labels} holds {first_few(list(label_paths))}; a "
            "prediction needs the file name of its label"
        )
    return PairedStems(
        common,
        tuple(stem for stem in label_paths if stem not in prediction_paths),
        tuple(stem for stem in prediction_paths if stem not in label_paths),
    )


def first_few(stems: Sequence[str], number: int = 3) -> str:
    """Name the first stems of a list, and that there are more."""
    return ", ".join(stems[:number]) + (", ..." if len(stems) > number else "")


def _confusion_of_pair(
    stem: str,
    label_path: Path,
    prediction_path: Path,
    num_classes: int,
    are_clusters: bool,
    ignore_index: int,
) -> Confusion:
    label_map, prediction = read_label_map(label_path), read_label_map(prediction_path)
    if label_map.shape != prediction.shape:
        raise InputError(
            f"image {stem}: the prediction is {prediction.shape[0]}x{prediction.shape[1]} and the label "
            f"{label_map.shape[0]}x{label_map.shape[1]} (height x width); resize the prediction to the "
            "label's size (nearest neighbour)"
        )
    try:
        num_predictions = num_classes
        if are_clusters:
            num_predictions = max(num_classes, _num_clusters(label_map, prediction, ignore_index))
        return confusion_matrix(label_map, prediction, num_classes, num_predictions, ignore_index)
    except InputError as error:
        raise InputError(f"image {stem}: {error}") from error


def _num_clusters(label_map: Confusion, prediction: Confusion, ignore_index: int) -> int:
    if ((prediction == ignore_index) & (label_map != ignore_index)).any():
        raise InputError(
            f"prediction {ignore_index} is the ignore index but stands on labelled pixels; every labelled "
            "pixel needs a cluster (background is 0)"
        )
    highest = highest_prediction(label_map, prediction, ignore_index)
    if highest >= MAX_CLUSTERS:
        raise InputError(
            f"prediction {highest} is above the highest cluster id {MAX_CLUSTERS - 1}; number clusters from 0"
        )
    return highest + 1


def _add_with_more_columns(total: Confusion, counts: Confusion) -> Confusion:
    num_columns = max(total.shape[1], counts.shape[1])
    grown = np.zeros((total.shape[0], num_columns), dtype=np.int64)
    grown[:, : total.shape[1]] += total
    grown[:, : counts.shape[1]] += counts
    return grown
