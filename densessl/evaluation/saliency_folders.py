"""Score a folder of saliency maps against the labels of an image set, one image in memory at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from densessl.data.images import IMAGE_SUFFIXES
from densessl.data.masks import SALIENCY_RECORD, MaskFolder, MaskReading, no_masks, open_mask_folder
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.label_map_folders import first_few
from densessl.evaluation.saliency_measures import FloatArray
from densessl.evaluation.saliency_scores import (
    THRESHOLD,
    ImageMeasures,
    SaliencyScores,
    average_measures,
    measure_image,
)
from densessl.evaluation.saliency_truth import foreground_of
from densessl.files import read_json
from densessl.structures import IGNORE, ImageRef, ImageSet, LabelReader, Rejection

MissingRule = Literal["error", "empty", "skip"]
Progress = Callable[[int, int], None]

_LEVELS = {"soft 8-bit": 255, "soft 16-bit": 65535, "alpha channel": 255}


@dataclass(frozen=True)
class ScoringSettings:
    """How maps are scored.

    missing: what an image without a map is: `error`, `empty` (scored as a map of zeros) or `skip` (not scored).
    threshold: IoU and accuracy are those of the map above it, in [0, 1).
    normalize: stretch each map to span 0 to 1 first, as published evaluations do.
    ignore_index: label of pixels that take no part.
    """

    missing: MissingRule = "error"
    threshold: float = THRESHOLD
    normalize: bool = True
    ignore_index: int = IGNORE

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise InputError(f"threshold {self.threshold} lies outside [0, 1); 0.5 is usual")
        if self.ignore_index == 0:
            raise InputError("ignore_index is 0, the background; choose the label of the pixels to leave out (255)")


@dataclass(frozen=True)
class FolderScores:
    """The scores of a folder of maps and how its files met the labels.

    scores: `None` where no image could be scored.
    images: the images that were scored or counted as empty.
    faults: images whose map or label is unusable; they are not in the scores.
    missing: stems of labelled images without a map (scored as zeros or skipped, as the settings say).
    all_ignored: stems without a single valid pixel, which are left out.
    num_predictions_without_label: maps that belong to none of the images.
    predictions_read_as: one line that says how the maps were read.
    """

    scores: SaliencyScores | None
    images: tuple[ImageRef, ...]
    faults: tuple[Rejection, ...]
    missing: tuple[str, ...]
    all_ignored: tuple[str, ...]
    num_predictions_without_label: int
    predictions_read_as: str


def score_folder(
    predictions: Path, truth: ImageSet, settings: ScoringSettings, progress: Progress | None = None
) -> FolderScores:
    """Score the maps in `predictions` (or `predictions/masks`) against the labels of every image of a set.

    An image whose map or label is broken or of another size costs a place in `faults`, not the run. Raises
    `InputError` where the set has no labels, where no image has a map, where maps contradict each other, and where a
    map is missing and the settings allow none.
    """
    labels = truth.labels
    if labels is None:
        raise InputError(f"split {truth.name} has no labels to score against; give --labels DIR or another split")
    # The images themselves are of no interest: the folder stands for them, so that no map is mistaken for an image.
    refs = tuple(ImageRef(ref.stem, predictions) for ref in truth.images)
    is_empty = settings.missing == "empty" and _has_rejected_all(predictions)
    masks = no_masks(predictions, refs) if is_empty else open_mask_folder(predictions, refs)
    _check_missing(masks, truth, settings.missing)
    is_scored = {ref.stem for ref in truth.images} if settings.missing == "empty" else masks.files.keys()
    images = tuple(ref for ref in truth.images if ref.stem in is_scored)
    faults: list[Rejection] = []
    all_ignored: list[str] = []

    def measure_all() -> Iterator[ImageMeasures]:
        for number, ref in enumerate(images, start=1):
            measured = _measure(masks, labels, ref, settings)
            match measured:
                case ImageMeasures():
                    yield measured
                case Rejection():
                    faults.append(measured)
                case None:
                    all_ignored.append(ref.stem)
            if progress is not None:
                progress(number, len(images))

    scores = average_measures(measure_all(), threshold=settings.threshold, normalize=settings.normalize)
    return FolderScores(
        scores=scores,
        images=images,
        faults=tuple(faults),
        missing=masks.missing,
        all_ignored=tuple(all_ignored),
        num_predictions_without_label=_num_unused(masks),
        predictions_read_as=masks.describe(),
    )


def _has_rejected_all(folder: Path) -> bool:
    """Say whether a folder is one in which `saliency` has finished and found no mask for any image."""
    path = folder / SALIENCY_RECORD
    record = read_json(path, "the record of `densessl saliency`") if path.is_file() else None
    match record:
        case {"counts": {"masks": 0}}:
            return True
    return False


def _check_missing(masks: MaskFolder, truth: ImageSet, rule: MissingRule) -> None:
    if rule == "error" and masks.missing:
        raise MissingInputError(
            f"{len(masks.missing)} of the {len(truth)} labelled images have no map in {masks.folder} "
            f"({first_few(masks.missing)}); add <stem>.png for each, or count them as empty maps (--missing empty, "
            "right for images that an estimator rejected) or leave them out (--missing skip)"
        )


def _measure(
    masks: MaskFolder, labels: LabelReader, ref: ImageRef, settings: ScoringSettings
) -> ImageMeasures | Rejection | None:
    """Return the measures of an image, why it cannot be scored, or `None` where all of it is ignored."""
    try:
        foreground, valid = foreground_of(labels(ref), settings.ignore_index)
        saliency = _soft_map(masks.read(ref)) if ref.stem in masks.files else np.zeros(foreground.shape)
    except InputError as error:
        return Rejection(ref.stem, str(error))
    if saliency.shape != foreground.shape:
        return Rejection(
            ref.stem,
            f"image {ref.stem}: the map is {saliency.shape[0]}x{saliency.shape[1]} and the label "
            f"{foreground.shape[0]}x{foreground.shape[1]} (height x width); resize the map to the label's size",
        )
    if not valid.any():
        return None
    return measure_image(
        ref.stem, saliency, foreground, valid, threshold=settings.threshold, normalize=settings.normalize
    )


def _soft_map(reading: MaskReading) -> FloatArray:
    """Return the map (height, width) in double precision: stored integers over their range, without rounding."""
    levels = _LEVELS.get(reading.encoding)
    soft = reading.soft.astype(np.float64)
    return soft if levels is None else np.rint(soft * levels) / levels


def _num_unused(masks: MaskFolder) -> int:
    """Return how many image files lie beside the maps that were found and belong to none of the images."""
    used = set(masks.files.values())
    nested = masks.folder / "masks"
    root = nested if all(nested in path.parents for path in used) else masks.folder
    return sum(
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path not in used
        for path in root.rglob("*")
    )
