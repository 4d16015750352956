"""The rounds of `self_label` on disk: pseudo-labels and a network in each, made from the one before.

OUT/self_label.json        what the folder was begun with
OUT/clusters.json          the clusters of round 1
OUT/round-N/pseudo_labels  label maps that the network of the round learns, of the images that are kept
OUT/round-N/selection.json every image's classes, their confidence, and what was kept; written when the labels are
OUT/round-N/training.json  loss and rate
OUT/round-N/network.safetensors
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.commands.self_label_progress import readable_images, say
from densessl.data.label_maps import write_label_map
from densessl.data.masks import MaskFolder
from densessl.data.soft_targets import SoftMaps
from densessl.data.view_sources import instance_map
from densessl.errors import InputError
from densessl.evaluation.class_maps import class_probabilities, classes_of_masks, most_likely
from densessl.evaluation.cluster_segmentation import cluster_ids, fitted_vectors
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.extraction import Extraction
from densessl.evaluation.pseudo_labels import (
    assignment_margins,
    check_enough,
    image_class,
    keep_most_confident,
    paint_pseudo_labels,
    unsure_pixels,
)
from densessl.evaluation.segmentation import NO_CLUSTER
from densessl.files import make_folder, read_json, write_json
from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.models.precision import on_device
from densessl.models.segmentation_network import (
    SegmentationNetwork,
    SegmentationNetworkHeader,
    build_segmentation_network,
    copy_run_encoder,
    load_segmentation_network,
    save_segmentation_network,
)
from densessl.structures import IGNORE, ImageRef
from densessl.training.devices import make_fabric
from densessl.training.run_folder import plain
from densessl.training.self_labelling import SelfLabellingSettings, count_pixels, train_segmentation_network


@dataclass(frozen=True)
class LabelledMasks:
    """The masks of one image with what they were found to be.

    clusters: int64 (num_masks,), of masks 1, 2, ...; `NO_CLUSTER` for none. confidences: float64 (num_masks,).
    """

    ref: ImageRef
    clusters: NDArray[np.int64]
    confidences: NDArray[np.float64]


@dataclass(frozen=True)
class Teacher:
    """What all rounds share.

    images: to learn from. masks: of the first round. num_clusters: of the foreground.
    """

    out: Path
    images: tuple[ImageRef, ...]
    masks: MaskFolder
    num_clusters: int
    settings: SelfLabellingSettings

    def folder(self, number: int) -> Path:
        """Return the folder of a round, counted from 1."""
        return self.out / f"round-{number}"

    def has_labels(self, number: int) -> bool:
        """Say whether the pseudo-labels of a round are complete."""
        return (self.folder(number) / "selection.json").is_file()


def masks_of_clusters(extraction: Extraction, found: Clustering, images: Sequence[ImageRef]) -> list[LabelledMasks]:
    """Return the masks of the embedded images with their clusters and margins (`assignment_margins`)."""
    refs = {ref.stem: ref for ref in images}
    margins = iter(assignment_margins(fitted_vectors(extraction), found))
    labelled = []
    for image, ids in zip(extraction.images, cluster_ids(extraction, found), strict=True):
        confidences = np.array([next(margins) if cluster != NO_CLUSTER else 0.0 for cluster in ids])
        labelled.append(LabelledMasks(refs[image.stem], ids, confidences))
    return labelled


def write_labels_of_masks(teacher: Teacher, number: int, labelled: Sequence[LabelledMasks], source: str) -> None:
    """Keep the most confident masks of each cluster and write them as the pseudo-labels of a round.

    An image counts as kept where one of its masks is; its other masks are not learned.

    Raises:
        InputError: fewer confident images than clusters.
    """
    groups = np.concatenate([item.clusters for item in labelled])
    confidences = np.concatenate([item.confidences for item in labelled])
    is_kept = keep_most_confident(confidences, groups, teacher.settings.kept_share)
    ends = np.cumsum([len(item.clusters) for item in labelled])[:-1]
    kept_of = np.split(is_kept, ends)
    num_kept = sum(bool(kept.any()) for kept in kept_of)
    check_enough(num_kept, teacher.num_clusters, f"round {number}")
    labels = _fresh_labels(teacher, number)
    for item, kept in zip(labelled, kept_of, strict=True):
        if kept.any():
            _write_masks(teacher, item, kept, labels)
    rows = [
        _row(item.ref, item.clusters + 1, item.confidences, kept) for item, kept in zip(labelled, kept_of, strict=True)
    ]
    _write_selection(teacher, number, source, rows)


def write_labels_of_network(teacher: Teacher, number: int) -> None:
    """Write the pseudo-labels of a round from the network of the round before, as `later_labels` says.

    Raises:
        InputError: fewer confident images than clusters.
    """
    network, header = load_segmentation_network(teacher.folder(number - 1) / "network.safetensors")
    network = on_device(network, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    source = f"network of round {number - 1}"
    match teacher.settings.later_labels:
        case "masks":
            labelled = list(_masks_by_network(teacher, network, header))
            if not labelled:
                raise InputError(f"round {number}: no image has a readable mask any more; put them back")
            write_labels_of_masks(teacher, number, labelled, source)
        case "predicted":
            _write_predicted(teacher, number, network, header, source)


def train_round(
    teacher: Teacher, number: int, model: MaskContrastModel, header: SegmentationNetworkHeader, seed: int
) -> None:
    """Train the network of a round on its pseudo-labels, beginning with the encoder of the run."""
    folder = teacher.folder(number)
    kept = {row["stem"] for row in read_selection(folder) if any(row["kept"])}
    images = tuple(ref for ref in teacher.images if ref.stem in kept)
    torch.manual_seed(seed)
    network = build_segmentation_network(header)
    copy_run_encoder(network, model.encoder)
    fabric = make_fabric(teacher.settings.precision)
    say(f"round {number}: learns from {len(images)} of {len(teacher.images)} images")
    outcome = train_segmentation_network(
        fabric,
        network,
        images,
        folder / "pseudo_labels",
        header.num_classes,
        teacher.settings,
        seed,
        f"round {number}",
    )
    write_json(folder / "training.json", plain(outcome))
    save_segmentation_network(folder / "network.safetensors", network, header)


def read_selection(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a round's selection.json; raises `InputError` where it is broken."""
    content = read_json(folder / "selection.json", "the selection of a round of `self_label`")
    match content:
        case {"images": list(rows)} if all(isinstance(row, dict) and {"stem", "kept"} <= row.keys() for row in rows):
            return rows
    raise InputError(f"{folder / 'selection.json'} holds no selection of images; choose another output folder (--out)")


def _masks_by_network(
    teacher: Teacher, network: SegmentationNetwork, header: SegmentationNetworkHeader
) -> Iterator[LabelledMasks]:
    with_mask = [ref for ref in teacher.images if ref.stem in teacher.masks.files]
    for ref, image in readable_images(with_mask, "label masks"):
        instances = instance_map(teacher.masks, ref, image.shape[:2])
        found = classes_of_masks(class_probabilities(image, network, header), instances)
        present = np.isin(np.arange(1, len(found.classes) + 1), instances)  # ids may have gaps
        yield LabelledMasks(ref, np.where(present, found.classes - 1, NO_CLUSTER), found.certainty)


def _write_predicted(
    teacher: Teacher, number: int, network: SegmentationNetwork, header: SegmentationNetworkHeader, source: str
) -> None:
    labels = _fresh_labels(teacher, number)
    refs, classes, confidences = [], [], []
    for ref, image in readable_images(teacher.images, "predict"):
        found = most_likely(class_probabilities(image, network, header), image.shape[:2])
        main_class, confidence = image_class(found.labels, found.certainty)
        learned = np.where(found.certainty < 0.5 + teacher.settings.unsure, IGNORE, found.labels)
        write_label_map(labels / f"{ref.stem}.png", learned)
        refs.append(ref)
        classes.append(main_class)
        confidences.append(confidence)
    is_kept = keep_most_confident(np.array(confidences), np.array(classes, dtype=np.int64), teacher.settings.kept_share)
    check_enough(int(is_kept.sum()), teacher.num_clusters, f"round {number}")
    for ref, kept in zip(refs, is_kept, strict=True):
        if not kept:
            (labels / f"{ref.stem}.png").unlink()
    kept_refs = tuple(ref for ref, kept in zip(refs, is_kept, strict=True) if kept)
    _check_two_sides(teacher, number, count_pixels(kept_refs, labels, header.num_classes))
    rows = [
        _row(ref, np.array([main_class]), np.array([confidence]), np.array([kept]))
        for ref, main_class, confidence, kept in zip(refs, classes, confidences, is_kept, strict=True)
    ]
    _write_selection(teacher, number, source, rows)


def _check_two_sides(teacher: Teacher, number: int, num_pixels: NDArray[np.int64]) -> None:
    """Refuse predicted labels without background or without foreground: a network would learn nothing from them."""
    for side, total in (("background", num_pixels[0]), ("foreground", num_pixels[1:].sum())):
        if total == 0:
            raise InputError(
                f"round {number}: the network of round {number - 1} gives no pixel of {side} a probability above "
                f"{0.5 + teacher.settings.unsure:g}, so there is nothing to learn; train it longer "
                f"(--self_labelling.epochs, now {teacher.settings.epochs}), lower --self_labelling.unsure, or choose "
                "--self_labelling.later_labels masks, in another output folder"
            )


def _write_masks(teacher: Teacher, item: LabelledMasks, kept: NDArray[np.bool_], labels: Path) -> None:
    reading = teacher.masks.read(item.ref)
    instances = instance_map(teacher.masks, item.ref, reading.foreground.shape)
    soft = _soft_map(teacher.masks, item.ref, reading.soft)
    unsure = unsure_pixels(instances, soft, teacher.settings.unsure, teacher.settings.band_px)
    write_label_map(
        labels / f"{item.ref.stem}.png",
        paint_pseudo_labels(instances, item.clusters.tolist(), kept.tolist(), unsure),
    )


def _soft_map(masks: MaskFolder, ref: ImageRef, own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the soft map that `saliency --keep_soft true` wrote beside the mask, or the mask as it was read."""
    beside = SoftMaps((masks.folder / "soft",), (1.0,))
    if not beside.has(ref.stem):
        return own
    soft = beside.read(ref.stem)
    if soft.shape != own.shape:
        raise InputError(
            f"soft map of image {ref.stem!r} in {masks.folder / 'soft'} is {soft.shape}, its mask {own.shape}; make "
            "them again, or take the soft maps away"
        )
    return soft


def _fresh_labels(teacher: Teacher, number: int) -> Path:
    labels = teacher.folder(number) / "pseudo_labels"
    shutil.rmtree(labels, ignore_errors=True)  # of a run that was stopped while it wrote them
    return make_folder(labels)


def _row(
    ref: ImageRef, classes: NDArray[np.integer], confidences: NDArray[np.floating], kept: NDArray[np.bool_]
) -> dict[str, Any]:
    return {
        "stem": ref.stem,
        "classes": classes.tolist(),
        "confidences": [round(float(value), 6) for value in confidences],
        "kept": kept.tolist(),
    }


def _write_selection(teacher: Teacher, number: int, source: str, rows: list[dict[str, Any]]) -> None:
    counts = []
    for label in range(1, teacher.num_clusters + 1):
        of_class = [
            kept for row in rows for value, kept in zip(row["classes"], row["kept"], strict=True) if value == label
        ]
        counts.append({"class": label, "found": len(of_class), "kept": sum(of_class)})
    empty = [str(count["class"]) for count in counts if count["found"] == 0]
    if empty:
        say(f"round {number}: no image was found for class {', '.join(empty)}, which this round will not learn")
    num_kept = sum(any(row["kept"]) for row in rows)
    content = {"labels_from": source, "num_images": len(rows), "num_kept": num_kept, "classes": counts, "images": rows}
    write_json(teacher.folder(number) / "selection.json", content)
