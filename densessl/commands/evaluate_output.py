"""What `evaluate` prints and draws: a table by class, means, intervals, notes, the confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from densessl.evaluation.bootstrap import CONFIDENCE, Bootstrap, PairedBootstrap
from densessl.evaluation.instance_scores import InstanceScores
from densessl.evaluation.label_map_folders import FolderConfusion, first_few
from densessl.evaluation.scores import Scores
from densessl.report.confusion_plot import write_confusion_plot


def print_scores(scores: Scores, class_names: Sequence[str] = (), console: Console | None = None) -> None:
    """Print a table of the scores per class in percent, their means, and what the labels were used for.

    class_names: names by class index; classes beyond them show their index alone.
    """
    console = Console() if console is None else console
    table = Table(title=f"{scores.num_images} images, match {scores.match}")
    table.add_column("class")
    columns = {"IoU %": scores.iou, "accuracy %": scores.accuracy}
    if scores.boundary is not None:
        columns["boundary IoU %"] = scores.boundary.iou
    for name in (*columns, "labelled pixels"):
        table.add_column(name, justify="right")
    num_labelled = scores.confusion.sum(axis=1)
    for number, (index, pixels) in enumerate(zip(scores.classes, num_labelled, strict=True)):
        name = f"{index} {escape(class_names[index])}" if index < len(class_names) else str(index)
        table.add_row(name, *(_cell(values[number]) for values in columns.values()), f"{pixels:,}")
    console.print(table)
    for line in _lines(scores):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def plot_confusion(path: Path, scores: Scores, class_names: Sequence[str]) -> None:
    """Draw the confusion matrix after matching, with the names of the classes where they are known."""
    names = [f"{c} {class_names[c]}" if c < len(class_names) else str(c) for c in scores.classes]
    title = f"{scores.num_images} images, match {scores.match}, mIoU {100 * scores.miou:.2f} %"
    write_confusion_plot(path, scores.confusion, names, title)


def _cell(value: float | None) -> str:
    return "absent" if value is None else f"{100 * value:.2f}"


def _lines(scores: Scores) -> list[str]:
    num_scored = sum(value is not None for value in scores.iou)
    lines = [
        f"mIoU {100 * scores.miou:.2f} % over {num_scored} of {len(scores.classes)} classes "
        f"({scores.absent_class_rule}); pixel accuracy {100 * scores.pixel_accuracy:.2f} %",
        f"frequency-weighted IoU {100 * scores.frequency_weighted_iou:.2f} %; mean accuracy "
        f"{100 * scores.mean_accuracy:.2f} %; before matching: ARI {scores.adjusted_rand_index:.4f}, NMI "
        f"{scores.normalised_mutual_information:.4f}",
    ]
    if scores.boundary is not None:
        lines.append(f"mean boundary IoU {100 * scores.boundary.mean:.2f} %")
    if scores.instances is not None:
        lines.append(_instances_line(scores.instances))
    if scores.bootstrap is not None:
        lines.append(_interval_line(scores.bootstrap))
    if scores.comparison is not None:
        lines.append(_comparison_line(scores.comparison))
    return [*lines, f"What the labels touched: {scores.labels_used}"]


def _instances_line(found: InstanceScores) -> str:
    return (
        f"instances: AP {100 * found.ap:.2f} % (at IoU 0.50 {100 * found.ap_50:.2f} %, at 0.75 "
        f"{100 * found.ap_75:.2f} %), AR {100 * found.ar_100:.2f} % over {len(found.classes)} classes; "
        f"{found.num_regions:,} regions, their area as score, against {found.num_objects:,} objects: "
        f"{found.objects_from}"
    )


def _interval_line(bootstrap: Bootstrap) -> str:
    return (
        f"mIoU {100 * bootstrap.low:.2f} to {100 * bootstrap.high:.2f} % in {100 * CONFIDENCE:.0f} % of "
        f"{bootstrap.num_resamples} resamples of {bootstrap.num_images} images, matching fixed"
    )


def _comparison_line(comparison: PairedBootstrap) -> str:
    return (
        f"better than {comparison.other} (mIoU {100 * comparison.other_miou:.2f} %) in {100 * comparison.better:.1f} % "
        f"of the same resamples (equal in {100 * comparison.equal:.1f} %); difference of mIoU "
        f"{100 * comparison.difference:+.2f} points, {100 * comparison.low:+.2f} to {100 * comparison.high:+.2f} in "
        f"{100 * CONFIDENCE:.0f} %"
    )


def pairing_notes(folders: FolderConfusion) -> list[str]:
    """Say which images were left out because they have no label or no prediction."""
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


def pairing_counts(folders: FolderConfusion) -> dict[str, int]:
    """Return the numbers of images that were left out, for the JSON."""
    return {
        "num_labels_without_prediction": len(folders.labels_without_prediction),
        "num_predictions_without_label": len(folders.predictions_without_label),
    }
