"""The command `evaluate`: score a folder of predicted label maps against a folder of labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.classes import ClassSelection, parse_classes
from densessl.commands.evaluate_output import pairing_counts, pairing_notes, plot_confusion, print_scores
from densessl.data.voc import read_class_names
from densessl.errors import InputError
from densessl.evaluation.bootstrap import ImageTotals, bootstrap_miou, compare_paired, image_totals
from densessl.evaluation.boundary import boundary_scores
from densessl.evaluation.instance_scores import score_instances
from densessl.evaluation.label_map_folders import (
    FolderConfusion,
    ScoredFolders,
    boundary_confusion_of_folders,
    confusion_of_folders,
    objects_of_folders,
    read_stems,
)
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.named_objects import REGIONS, ObjectTruth
from densessl.evaluation.saliency_instances import open_object_maps
from densessl.evaluation.scores import Scores, check_classes, scores_from_confusion
from densessl.files import write_json
from densessl.structures import IGNORE, ImageRef
from densessl.training.processes import share_images

LEAST_RESAMPLES = 100


@checked_arguments
def evaluate(
    predictions: Path,
    labels: Path,
    num_classes: int,
    json: Path | None = None,
    ignore_index: int = IGNORE,
    match: MatchRule = "none",
    classes: ClassSelection = None,
    split_file: Path | None = None,
    class_names: Path | None = None,
    plot: Path | None = None,
    boundary: bool = False,
    instances: bool = False,
    objects: Path | None = None,
    bootstrap: int = 0,
    compare: Path | None = None,
    seed: int = 0,
) -> Scores:
    """Score predicted label maps against labels: IoU and accuracy per class, their means, agreement (ARI, NMI).

    One confusion matrix is summed over all images. A class absent from labels and predictions has no IoU and
    is left out of the mean; docs/scores.md has the rules of every score. Without a split file the images that
    have both a prediction and a label are scored, and the numbers of the others are printed and recorded. Processes
    that torchrun or srun started share the images; the first one prints and writes, the same as one process would.

    Args:
        predictions: Folder of predictions, one PNG per image: class indices, or cluster ids where they are
            matched.
        labels: Folder of labels, one PNG per image, same file names and sizes as the predictions.
        num_classes: Number of classes in the labels, background included.
        json: Write the scores to this file.
        ignore_index: Label of pixels that do not count.
        match: How cluster ids become classes. none: they are classes already. hungarian: one-to-one,
            maximising the sum of IoU. hungarian_counts: one-to-one, maximising the number of right pixels.
            majority: each cluster takes the class most of its pixels have. highest_iou: each cluster takes the
            class of its highest IoU. All but the first use the labels.
        classes: Score only these classes; pixels of other labels are ignored, predictions of other classes
            are misses.
        split_file: Text file with one image stem per line; each of them needs a prediction and a label.
        class_names: Text file with one class name per line, background first, for the table and the plot.
        plot: Draw the confusion matrix after matching, each row divided by its sum, to this PNG file.
        boundary: Also score boundary IoU; it reads the images a second time.
        instances: Also score objects by COCO's AP and AR: connected regions of the predicted classes against those
            of the labels, or against `objects`; docs/scores.md has the rule. It reads the images a second time.
        objects: Folder of true objects, one PNG per image with 0 for background, 1.. for objects and 255 ignored,
            such as VOC's SegmentationObject.
        bootstrap: How many times the images are resampled for a 95 % interval of the mIoU; 0 for none. The
            matching stays that of all images.
        compare: Folder of other predictions of the same images, matched by the same rule. Both are scored on the
            same resamples: in how many the first is better, and the interval of the difference of mIoU.
        seed: Seed of the resampling.

    Returns:
        The scores, as fractions.

    Raises:
        InputError: For missing files, sizes that differ, or values out of range; the message names the image.
    """
    chosen = parse_classes(classes)
    _check_settings(num_classes, ignore_index, chosen)
    _check_extras(bootstrap, compare, seed, plot)
    if objects is not None and not instances:
        raise InputError(f"objects {objects} are only used with --instances true; add it, or drop them")
    truth = _object_truth(objects) if instances else None
    names = () if class_names is None else read_class_names(class_names)
    stems = None if split_file is None else read_stems(split_file)

    share = share_images()

    def score(folder: Path, stems: Sequence[str] | None) -> tuple[FolderConfusion, Scores]:
        found = confusion_of_folders(
            folder,
            labels,
            num_classes,
            are_clusters=match != "none",
            stems=stems,
            ignore_index=ignore_index,
            keep_images=bootstrap > 0,
            share=share,
        )
        return found, scores_from_confusion(found.confusion, len(found.stems), match, chosen)

    folders, scores = score(predictions, stems)
    scored = ScoredFolders(predictions, labels, folders, scores, ignore_index, share)
    if boundary:
        counts = boundary_confusion_of_folders(scored)
        scores = replace(scores, boundary=boundary_scores(counts))
    if truth is not None:
        masks = objects_of_folders(scored, truth)
        scores = replace(scores, instances=score_instances(masks, scores.classes, truth.description))
    if bootstrap:
        totals = _image_totals(folders, scores)
        scores = replace(scores, bootstrap=bootstrap_miou(totals, bootstrap, seed))
        if compare is not None:
            other = _image_totals(*score(compare, folders.stems))
            scores = replace(scores, comparison=compare_paired(totals, other, bootstrap, seed, str(compare)))
    if not share.is_first:
        return scores
    print_scores(scores, names)
    for note in pairing_notes(folders):
        Console(stderr=True).print(f"[bold yellow]Note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    if plot is not None:
        plot_confusion(plot, scores, names)
    if json is not None:
        write_json(json, {**scores.to_json(), **pairing_counts(folders)})
    return scores


def _object_truth(objects: Path | None) -> ObjectTruth:
    if objects is None:
        return ObjectTruth(REGIONS)
    source = open_object_maps(objects)
    return ObjectTruth(source.description, lambda stem: source.read(ImageRef(stem, objects / f"{stem}.png")))


def _image_totals(folders: FolderConfusion, scores: Scores) -> ImageTotals:
    num_labels, num_predictions = folders.confusion.shape
    return image_totals(
        folders.images,
        scores.rows_of_labels(num_labels),
        scores.columns_of_predictions(num_predictions),
        len(scores.classes),
    )


def _check_settings(num_classes: int, ignore_index: int, classes: Sequence[int] | None) -> None:
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; it must be at least 1 (background included)")
    if classes is not None and ignore_index in check_classes(classes, num_classes):
        raise InputError(
            f"class {ignore_index} is to be scored but is the ignore index; take it off the list of classes"
        )


def _check_extras(bootstrap: int, compare: Path | None, seed: int, plot: Path | None) -> None:
    if bootstrap != 0 and bootstrap < LEAST_RESAMPLES:
        raise InputError(
            f"bootstrap is {bootstrap}; it must be 0 (no interval) or at least {LEAST_RESAMPLES}, fewer resamples do "
            "not show the ends of a 95 % interval"
        )
    if compare is not None and bootstrap == 0:
        raise InputError("--compare needs the number of resamples; add --bootstrap 1000")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    if plot is not None and plot.suffix.lower() != ".png":
        raise InputError(f"plot {plot} must be a PNG file; give it the suffix .png")
