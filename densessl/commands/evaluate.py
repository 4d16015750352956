"""The command `evaluate`: score a folder of predicted label maps against a folder of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from densessl.commands.classes import ClassSelection, parse_classes
from densessl.errors import InputError
from densessl.evaluation.label_map_folders import (
    FolderConfusion,
    confusion_of_folders,
    first_few,
    read_stems,
)
from densessl.evaluation.scores import Scores, check_classes, scores_from_confusion
from densessl.files import write_json
from densessl.structures import IGNORE


def evaluate(
    predictions: Path,
    labels: Path,
    num_classes: int,
    json: Path | None = None,
    ignore_index: int = IGNORE,
    match: Literal["none", "hungarian", "majority"] = "none",
    classes: ClassSelection = None,
    split_file: Path | None = None,
) -> Scores:
    """Score predicted label maps against labels: IoU per class, their mean, pixel accuracy.

    One confusion matrix is summed over all images. A class absent from labels and predictions has no IoU and
    is left out of the mean. Without a split file the images that have both a prediction and a label are
    scored, and the numbers of the others are printed and recorded.

    Args:
        predictions: Folder of predictions, one PNG per image: class indices, or cluster ids where they are
            matched.
        labels: Folder of labels, one PNG per image, same file names and sizes as the predictions.
        num_classes: Number of classes in the labels, background included.
        json: Write the scores to this file.
        ignore_index: Label of pixels that do not count.
        match: How cluster ids become classes. none: they are classes already. hungarian: one-to-one,
            maximising the sum of IoU. majority: each cluster takes the class most of its pixels have. The
            last two use the labels.
        classes: Score only these classes; pixels of other labels are ignored, predictions of other classes
            are misses.
        split_file: Text file with one image stem per line; each of them needs a prediction and a label.

    Returns:
        The scores, as fractions.

    Raises:
        InputError: For missing files, sizes that differ, or values out of range; the message names the image.
    """
    chosen = parse_classes(classes)
    _check_settings(num_classes, ignore_index, chosen)
    folders = confusion_of_folders(
        predictions,
        labels,
        num_classes,
        are_clusters=match != "none",
        stems=None if split_file is None else read_stems(split_file),
        ignore_index=ignore_index,
    )
    scores = scores_from_confusion(folders.confusion, len(folders.stems), match, chosen)
    print_scores(scores)
    for note in _pairing_notes(folders):
        Console(stderr=True).print(f"[bold yellow]Note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    if json is not None:
        write_json(json, {**scores.to_json(), **_pairing_counts(folders)})
    return scores


def print_scores(scores: Scores, class_names: Sequence[str] = (), console: Console | None = None) -> None:
    """Print a table of IoU per class in percent, the mean, and what the labels were used for.

    class_names: names by class index; classes beyond them show their index alone.
    """
    console = Console() if console is None else console
    table = Table("class", "IoU %", "labelled pixels", title=f"{scores.num_images} images, match {scores.match}")
    for column in table.columns[1:]:
        column.justify = "right"
    num_labelled = scores.confusion.sum(axis=1)
    for index, iou, pixels in zip(scores.classes, scores.iou, num_labelled, strict=True):
        name = f"{index} {escape(class_names[index])}" if index < len(class_names) else str(index)
        table.add_row(name, "absent" if iou is None else f"{100 * iou:.2f}", f"{pixels:,}")
    console.print(table)
    num_scored = sum(value is not None for value in scores.iou)
    lines = (
        f"mIoU {100 * scores.miou:.2f} % over {num_scored} of {len(scores.classes)} classes "
        f"({scores.absent_class_rule}); pixel accuracy {100 * scores.pixel_accuracy:.2f} %",
        f"What the labels touched: {scores.labels_used}",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _check_settings(num_classes: int, ignore_index: int, classes: Sequence[int] | None) -> None:
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; it must be at least 1 (background included)")
    if classes is not None and ignore_index in check_classes(classes, num_classes):
        raise InputError(
            f"class {ignore_index} is to be scored but is the ignore index; take it off the list of classes"
        )


def _pairing_notes(folders: FolderConfusion) -> list[str]:
    num_scored = len(folders.stems)
    notes = []
    if folders.labels_without_prediction:
        missing = folders.labels_without_prediction
        notes.append(
            f"{num_scored} of {num_scored + len(missing)} labelled images have a prediction; only those are "
            f"scored (without: {first_few(missing)}). Give --split_file to require a prediction of every "
            "image of a split."
        )
    if folders.predictions_without_label:
        extra = folders.predictions_without_label
        notes.append(f"{len(extra)} predictions have no label and are not scored: {first_few(extra)}")
    return notes


def _pairing_counts(folders: FolderConfusion) -> dict[str, int]:
    return {
        "num_labels_without_prediction": len(folders.labels_without_prediction),
        "num_predictions_without_label": len(folders.predictions_without_label),
    }
