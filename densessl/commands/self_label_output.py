"""Label maps and scores that `self_label` makes with a network, or with clusters, and what it records of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from densessl.commands.evaluate_output import print_scores
from densessl.commands.self_label_progress import readable_images, say
from densessl.data.label_maps import write_label_map
from densessl.data.masks import MaskFolder
from densessl.data.view_sources import instance_map
from densessl.errors import InputError
from densessl.evaluation.class_maps import class_probabilities, labels_under_masks, most_likely
from densessl.evaluation.cluster_segmentation import read_label
from densessl.evaluation.clustering import Clustering, assign
from densessl.evaluation.confusion import confusion_matrix
from densessl.evaluation.extraction import EmbeddedImage, decode_instances
from densessl.evaluation.matching import MatchRule
from densessl.evaluation.scores import Scores, scores_from_confusion
from densessl.evaluation.segmentation import NO_CLUSTER, paint
from densessl.files import write_json
from densessl.models.segmentation_network import SegmentationNetwork, SegmentationNetworkHeader
from densessl.saliency.mask_provenance import masks_provenance
from densessl.structures import IGNORE, ImageArray, ImageRef, ImageSet, LabelMap, Provenance
from densessl.training.run_folder import plain, read_run_record

NetworkForeground = Literal["predicted", "masks"]
"""Where the background comes from: the network's class 0, or masks of the images."""


@dataclass(frozen=True)
class SelfLabelResult:
    """What `self_label` made.

    num_clusters counts the background. scores are those of the last round, and miou_per_round those of rounds 1, 2,
    ...; None and empty without labels.
    """

    out: Path
    num_clusters: int
    num_images: int
    scores: Scores | None
    miou_per_round: tuple[float, ...]


@dataclass(frozen=True)
class Target:
    """The images that get label maps, and how.

    masks: theirs, where the foreground is that of masks; None where the network predicts it. classes: those that are
    scored; None where nothing is.
    """

    images: ImageSet
    classes: tuple[int, ...] | None
    foreground: NetworkForeground
    masks: MaskFolder | None
    one_class_per_mask: bool

    @property
    def is_scored(self) -> bool:
        return self.images.labels is not None and self.classes is not None


@dataclass(frozen=True)
class Labelled:
    """How many images got a label map, which did not and why, and the scores where there are labels."""

    num_images: int
    rejected: tuple[tuple[str, str], ...]
    scores: Scores | None


def label_by_network(
    target: Target, network: SegmentationNetwork, header: SegmentationNetworkHeader, folder: Path | None
) -> Labelled:
    """Label the images of a target with a network in evaluation mode; writes `folder/<stem>.png`, if there is one."""
    rejected: list[tuple[str, str]] = []

    def label(ref: ImageRef, image: ImageArray) -> LabelMap:
        probabilities = class_probabilities(image, network, header)
        if target.masks is None:
            return most_likely(probabilities, image.shape[:2]).labels
        instances = instance_map(target.masks, ref, image.shape[:2])
        return labels_under_masks(probabilities, instances, target.one_class_per_mask)

    return _collect(target, _label_maps(target, label, rejected), rejected, header.num_classes, folder)


def label_by_clusters(
    target: Target, embedded: Iterator[EmbeddedImage | Any], found: Clustering, folder: Path | None
) -> Labelled:
    """Give the masks of a target's images, embedded as the clustered ones were, the nearest of the clusters."""
    rejected: list[tuple[str, str]] = []
    refs = {ref.stem: ref for ref in target.images.images}

    def maps() -> Iterator[tuple[ImageRef, LabelMap]]:
        for item in embedded:
            if not isinstance(item, EmbeddedImage):
                rejected.append((item.stem, item.reason))
                continue
            ids = np.full(len(item.vectors), NO_CLUSTER, dtype=np.int64)
            if item.has_prototype.any():
                ids[item.has_prototype] = assign(item.vectors[item.has_prototype], found)
            yield refs[item.stem], paint(decode_instances(item), ids.tolist())

    return _collect(target, maps(), rejected, found.num_clusters + 1, folder)


def score_record(
    target: Target, scores: Scores, header: SegmentationNetworkHeader, made_by: str, miou_per_round: Sequence[float]
) -> dict[str, Any]:
    """Return the content of a scores.json: scores, what made them, and which labels touched them.

    miou_per_round: of rounds 1, 2, ... so far; empty where a network serves other images.
    """
    names = target.images.class_names
    if target.masks is None:
        masks = f"the network's own foreground; it learned from masks: {header.masks}"
    else:
        masks = f"{masks_provenance(target.masks.folder)}; the network learned from masks: {header.masks}"
    return plain(  # type: ignore[no-any-return]
        {
            **scores.to_json(),
            "class_names": [names[number] for number in scores.classes] if names else [],
            "num_clusters": header.num_classes,
            "foreground": target.foreground,
            "masks": target.masks and target.masks.folder,
            "one_class_per_mask": target.one_class_per_mask,
            "made_by": made_by,
            "miou_per_round": list(miou_per_round),
            "provenance": Provenance(
                backbone=header.backbone,
                masks=masks,
                selection="none in this run (last round); docs/decisions.md says which labels the shipped recipes saw",
                matching=scores.labels_used,
                notes=("no label was read to cluster, to train or to choose pseudo-labels",),
            ),
        }
    )


def write_scores(path: Path, content: dict[str, Any], scores: Scores, names: Sequence[str], title: str) -> None:
    """Write a scores.json and print it under a title, on standard error."""
    write_json(path, content)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(title, markup=False)
    print_scores(scores, names, console)


def run_provenance(run: Path, weights: str) -> str:
    """Say which labels touched the encoder of a run: those of its first weights and, after training, its masks."""
    known = read_run_record(run).get("provenance", {})
    backbone = str(known.get("backbone", "unknown"))
    if weights == "initial":
        return backbone
    return f"{backbone}; masks in pretraining: {known.get('masks', 'unknown')}"


def scores_of(labelled: Labelled, target: Target) -> Scores:
    check_labelled(labelled, target)
    if labelled.scores is None:
        raise InputError(f"{target.images.name} has no labels to score against")
    return labelled.scores


def check_labelled(labelled: Labelled, target: Target) -> None:
    if labelled.num_images == 0:
        first = labelled.rejected[0] if labelled.rejected else ("", "there were none")
        raise InputError(
            f"none of {len(target.images)} images could be labelled; the first: {first[0]} ({first[1]}); check images "
            "and masks"
        )


def say_end(out: Path, labelled: Labelled) -> None:
    left_out = f", {len(labelled.rejected)} left out" if labelled.rejected else ""
    unscored = "; no labels: nothing is scored" if labelled.scores is None else ""
    say(f"{labelled.num_images} label maps{left_out}: {out}{unscored}")


def working_device() -> torch.device:
    """Return the GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _label_maps(
    target: Target, label: Callable[[ImageRef, ImageArray], LabelMap], rejected: list[tuple[str, str]]
) -> Iterator[tuple[ImageRef, LabelMap]]:
    images = list(target.images.images)
    if target.masks is not None:
        missing = set(target.masks.missing)
        rejected.extend((ref.stem, "no mask") for ref in images if ref.stem in missing)
        images = [ref for ref in images if ref.stem not in missing]
    for ref, image in readable_images(images, "label maps", lambda ref, reason: rejected.append((ref.stem, reason))):
        yield ref, label(ref, image)


def _collect(
    target: Target,
    maps: Iterator[tuple[ImageRef, LabelMap]],
    rejected: list[tuple[str, str]],
    num_predictions: int,
    folder: Path | None,
) -> Labelled:
    """Write label maps as they come, and count them against the labels where there are any."""
    confusion = np.zeros((IGNORE, num_predictions), dtype=np.int64)
    num_images = 0
    for ref, label_map in maps:
        num_images += 1
        if folder is not None:
            write_label_map(folder / f"{ref.stem}.png", label_map)
        if target.is_scored:
            confusion += confusion_matrix(read_label(target.images, ref), label_map, IGNORE, num_predictions)
    scores = None
    if target.classes is not None and target.is_scored and num_images:
        match: MatchRule = "hungarian" if num_predictions == len(target.classes) else "highest_iou"
        scores = scores_from_confusion(confusion, num_images, match, target.classes)
    return Labelled(num_images, tuple(rejected), scores)
