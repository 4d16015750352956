"""The command `saliency_metrics`: score saliency maps, and mask proposals, against ground truth."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.classes import ClassSelection, parse_classes
from densessl.data.coco import CocoLabels
from densessl.data.layouts import open_data_set
from densessl.errors import InputError
from densessl.evaluation.label_map_folders import first_few
from densessl.evaluation.saliency_folders import FolderScores, MissingRule, ScoringSettings, score_folder
from densessl.evaluation.saliency_instances import InstanceSource, find_instances
from densessl.evaluation.saliency_overlap import ProposalScores
from densessl.evaluation.saliency_proposals import read_proposal_file, score_proposal_file
from densessl.evaluation.saliency_scores import SaliencyScores
from densessl.evaluation.saliency_truth import ChosenClasses, LabelKind, only_classes, open_truth_folder
from densessl.files import write_json
from densessl.structures import IGNORE, ImageSet


@checked_arguments
def saliency_metrics(
    predictions: Path,
    labels: Path | None = None,
    data: Path | None = None,
    split: str = "val",
    proposals: Path | None = None,
    json: Path | None = None,
    missing: MissingRule = "error",
    threshold: float = 0.5,
    normalize: bool = True,
    ignore_index: int = IGNORE,
    label_kind: LabelKind = "auto",
    classes: ClassSelection = None,
) -> SaliencyScores:
    """Score saliency maps against masks or labels: MAE, F-measures, S-measure, E-measures, IoU, accuracy.

    Foreground is every label but 0 and the ignore index; ignored pixels take no part. Maps may be masks or soft maps
    of 8 or 16 bits, labels masks (0/1, 0/255) or label maps of class ids; how a folder is read is printed. The
    numbers are those of the field's usual evaluation code; docs/saliency_metrics.md defines each. An image whose map
    or label is unusable is reported, all others are looked at too, and no scores are written.

    Args:
        predictions: Folder of maps, one image per label, same stems and sizes as the labels; sub-folders are kept.
            A folder written by `saliency` may be given itself.
        labels: Folder of ground truth, one PNG per image (give this or --data).
        data: A data set in VOC or COCO layout whose labels are the ground truth (give this or --labels).
        split: The split of --data to score.
        proposals: Also score these mask proposals, COCO layout (proposals.json of `saliency`), against the objects
            of the ground truth: COCO annotations, VOC object maps, or else connected regions of the labels.
        json: Write the scores to this file.
        missing: What a labelled image without a map is. error: refused. empty: scored as a map of zeros, as is fair
            for images that an estimator rejected. skip: not scored, but counted.
        threshold: IoU and accuracy are those of the map above this value, in [0, 1).
        normalize: Stretch each map to span 0 to 1 before anything else, as published evaluations do; constant maps
            stay as they are. false takes the maps' values as they are.
        ignore_index: Label of pixels that take no part. In masks of two values nothing is ignored.
        label_kind: How files of --labels are read. auto: masks or class ids, judged by all files. ids: always class
            ids, for greyscale label maps with ids above 63.
        classes: Only these class ids are foreground; pixels of other classes are ignored, as is fair where a data set
            is about some of its classes. By default all are. Not together with proposals.

    Returns:
        The scores, as fractions.

    Raises:
        InputError: For missing or unusable files, sizes that differ, or values out of range; the message names the
            image.
    """
    settings = ScoringSettings(missing, threshold, normalize, ignore_index)
    truth = _open_truth(labels, data, split, ignore_index, label_kind)
    chosen = parse_classes(classes)
    if chosen is not None:
        if proposals is not None:
            raise InputError(
                f"classes {classes} choose pixels, but proposals {proposals} are scored against whole objects of any "
                "class; score them in a call of its own without classes"
            )
        truth = only_classes(truth, chosen, ignore_index)
    file = None if proposals is None else read_proposal_file(proposals)
    with _progress_bar() as bar:
        task = bar.add_task("scoring maps", total=None)
        folder = score_folder(
            predictions, truth, settings, lambda done, total: bar.update(task, completed=done, total=total)
        )
    scores = _scores_without_faults(folder)
    if chosen is not None and not any(image.num_foreground_px for image in scores.per_image):
        raise InputError(
            f"no pixel of any of {scores.num_images} images is of classes {classes}, so every measure would be of "
            "maps against nothing; choose classes that the labels hold"
        )
    content = _to_json(folder, scores, truth)
    if file is not None:
        source = find_instances(truth, folder.images, ignore_index)
        proposal_scores = score_proposal_file(file, folder.images, source)
        content["proposals"] = {**proposal_scores.to_json(), "objects_from": source.description}
    print_saliency_scores(scores)
    if file is not None:
        print_proposal_scores(proposal_scores, source)
    _print_notes(folder, truth, missing)
    if json is not None:
        write_json(json, content)
    return scores


def print_saliency_scores(scores: SaliencyScores, console: Console | None = None) -> None:
    """Print a table of the measures, as fractions, and the conventions behind them."""
    console = Console() if console is None else console
    error = "" if scores.standard_error is None else f" ± {scores.standard_error:.4f} (standard error)"
    cut = f"map > {scores.threshold:g}"
    rows = (
        ("MAE (lower is better)", f"{scores.mae:.4f}"),
        ("F-measure max / mean / adaptive", f"{scores.max_f:.4f} / {scores.mean_f:.4f} / {scores.adaptive_f:.4f}"),
        ("weighted F-measure", f"{scores.weighted_f:.4f}"),
        ("S-measure", f"{scores.s_measure:.4f}"),
        ("E-measure max / mean / adaptive", f"{scores.max_e:.4f} / {scores.mean_e:.4f} / {scores.adaptive_e:.4f}"),
        (f"IoU, {cut}, mean over images", f"{scores.iou:.4f}{error}"),
        (f"IoU, {cut}, pooled over pixels", f"{scores.pooled_iou:.4f}"),
        ("IoU at the best threshold", f"{scores.max_iou:.4f} (map >= {scores.max_iou_threshold:.3f})"),
        (f"pixel accuracy, {cut}", f"{scores.accuracy:.4f}"),
    )
    title = f"{scores.num_images:,} images, maps {'stretched to 0-1' if scores.normalize else 'as they are'}"
    _print_table(console, title, rows)


def print_proposal_scores(scores: ProposalScores, source: InstanceSource, console: Console | None = None) -> None:
    """Print a table of how well the proposals cover the objects, and where those come from."""
    console = Console() if console is None else console
    rows = (
        ("best overlap (ABO), mean over objects", f"{scores.best_overlap:.4f}"),
        ("CorLoc, box IoU >= 0.5", f"{scores.corloc:.4f}"),
        ("AR@1 / AR@10 / AR@100 (masks)", f"{scores.ar_1:.4f} / {scores.ar_10:.4f} / {scores.ar_100:.4f}"),
    )
    title = f"{scores.num_proposals:,} proposals, {scores.num_objects:,} objects in {scores.num_images:,} images"
    _print_table(console, title, rows)
    console.print(f"Objects: {source.description}", highlight=False, markup=False, soft_wrap=True)


def _open_truth(
    labels: Path | None, data: Path | None, split: str, ignore_index: int, label_kind: LabelKind
) -> ImageSet:
    if labels is not None and data is None:
        return open_truth_folder(labels, ignore_index, label_kind)
    if data is not None and labels is None:
        if label_kind != "auto":
            raise InputError(f"label_kind {label_kind} is of --labels; a data set tells by itself: leave it out")
        truth = open_data_set(data, split)
        if isinstance(truth.labels, CocoLabels) and ignore_index != IGNORE:
            raise InputError(
                f"ignore_index is {ignore_index}, but the crowds of a data set in the COCO layout are marked {IGNORE}; "
                "leave it out"
            )
        return truth
    given = "neither" if labels is None else f"both ({labels} and {data})"
    raise InputError(
        f"give either a folder of ground truth or a labelled data set, got {given}: give --labels DIR (labels=) or "
        "--data ROOT (data=)"
    )


def _scores_without_faults(folder: FolderScores) -> SaliencyScores:
    """Return the scores; raises `InputError` where an image could not be scored, after naming every one of them."""
    console = Console(stderr=True)
    for fault in folder.faults:
        console.print(f"[bold red]Unusable:[/] {escape(fault.stem)}: {escape(fault.reason)}", soft_wrap=True)
    if folder.faults:
        raise InputError(
            f"{len(folder.faults)} of {len(folder.images)} images cannot be scored "
            f"({first_few([fault.stem for fault in folder.faults])}), so no scores are given; the first: "
            f"{folder.faults[0].reason}"
        )
    if folder.scores is None:
        raise InputError(
            f"all pixels of all {len(folder.images)} images are ignored, so there is nothing to score; check the "
            "labels and the ignore index"
        )
    return folder.scores


def _to_json(folder: FolderScores, scores: SaliencyScores, truth: ImageSet) -> dict[str, Any]:
    """Return the scores and how files met labels as plain values; `proposals` is null until they are scored."""
    content = scores.to_json()
    per_image = content.pop("per_image")
    counts = {
        "num_missing": len(folder.missing),
        "num_all_ignored": len(folder.all_ignored),
        "num_predictions_without_label": folder.num_predictions_without_label,
    }
    reading = {"predictions_read_as": folder.predictions_read_as, "labels_read_as": _labels_read_as(truth)}
    return {**content, **counts, **reading, "proposals": None, "missing": list(folder.missing), "per_image": per_image}


def _labels_read_as(truth: ImageSet) -> str:
    if not truth.class_names:
        return str(truth.labels)
    read = f"class ids of split {truth.name}"
    return read if not isinstance(truth.labels, ChosenClasses) else f"{read}, {truth.labels.rule}"


def _print_notes(folder: FolderScores, truth: ImageSet, missing: MissingRule) -> None:
    num_extra = folder.num_predictions_without_label
    notes = [f"{folder.predictions_read_as}; labels read as {_labels_read_as(truth)}"]
    if folder.missing:
        fate = "are scored as empty maps" if missing == "empty" else "are not scored"
        notes.append(f"{len(folder.missing)} images without a map {fate}: {first_few(folder.missing)}")
    if folder.all_ignored:
        ignored = folder.all_ignored
        notes.append(f"{len(ignored)} images have ignored pixels only and are not scored: {first_few(ignored)}")
    if num_extra:
        notes.append(f"{num_extra} maps belong to no labelled image and are not scored")
    for note in notes:
        Console(stderr=True).print(f"[bold yellow]Note:[/] {escape(note)}", highlight=False, soft_wrap=True)


def _print_table(console: Console, title: str, rows: tuple[tuple[str, str], ...]) -> None:
    table = Table("measure", "value", title=title)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
