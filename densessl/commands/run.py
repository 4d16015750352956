"""The stage `run`: images in, segmentation and report out."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.classes import ClassSelection
from densessl.commands.cluster import ClusterResult, check_cluster_settings, cluster
from densessl.commands.pretrain import pretrain
from densessl.commands.report import report
from densessl.data.images import image_size
from densessl.data.layouts import open_images
from densessl.data.masks import open_mask_folder
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.evaluation.cluster_segmentation import read_label
from densessl.evaluation.network_features import FeatureMap
from densessl.models.mask_contrast_model import ModelSettings
from densessl.objectives.settings import ObjectiveSettings
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageRef, ImageSet
from densessl.training.settings import TrainingSettings


@dataclass(frozen=True)
class RunResult:
    """Where the report is, and the clusters after (and, with labels, before) pretraining."""

    report: Path
    clusters: ClusterResult
    initial_clusters: ClusterResult | None


@checked_arguments
def run(
    out: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    eval_split: str = "val",
    masks: Path | None = None,
    eval_masks: Path | None = None,
    num_clusters: int | None = None,
    foreground: Literal["masks", "head"] = "masks",
    classes: ClassSelection = None,
    seeds: int = 5,
    protocol: Literal["native", "maskcontrast"] = "native",
    image_size: int | None = None,
    resume: bool = False,
    seed: int = 0,
    saliency: SaliencySettings = SaliencySettings(),
    model: ModelSettings = ModelSettings(),
    views: ViewSettings = ViewSettings(),
    objective: ObjectiveSettings = ObjectiveSettings(),
    training: TrainingSettings = TrainingSettings(),
) -> RunResult:
    """Turn images into a segmentation: propose masks, pretrain, cluster, write a report, score where labels exist.

    With --images everything happens on that folder. With --data the network is trained on --split and clustered and
    scored on --eval_split, before and after training; before, an encoder that came with weights is judged by its own
    features, since the head on them is still random. Labels are read for scores alone.

    Args:
        out: the run folder; OUT/report/index.html shows everything.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images).
        split: the split of --data to train on.
        eval_split: the split of --data to cluster and score.
        masks: a folder of masks made elsewhere; without it masks are proposed.
        eval_masks: the folder that holds the masks of --eval_split, where that is not --masks.
        num_clusters: clusters including the background; by default the number of classes, or 21 without labels.
        foreground: what is clustered: masks (the proposals, or --masks) or head (the network's saliency head).
        classes: the classes to score, such as 0,8,10; pixels of others are ignored.
        seeds: how many times clustering is repeated; scores are means over the repetitions.
        protocol: native (our default) or maskcontrast (as published).
        image_size: height and width that images are clustered at; by default the protocol's (320 or 512).
        resume: go on with the run in --out after an interruption, with the same configuration.
        seed: of everything random in training; clustering is repeated from seed 0 on in every run, so that runs are
            compared under the same seeds.
        saliency: how masks are proposed where none are given.
        model: the network.
        views: how the two views of an image are drawn.
        objective: the loss.
        training: the schedule.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    if objective.method != "mask_contrast":
        raise InputError(
            f"objective.method is {objective.method}, which trains an encoder and no clusters; use `pretrain` with it, "
            "and give its run folder to `cluster --encoder`"
        )
    evaluated = split if data is None else eval_split
    image_set = open_images(images, data, evaluated, out)
    check_cluster_settings(image_set, num_clusters, classes, seeds, seed=0)
    check_labels(image_set)
    if eval_masks is not None:
        if foreground == "head":
            raise InputError(
                f"eval_masks {eval_masks} is given, but foreground is head, which clusters no masks; leave "
                "one of the two out"
            )
        open_mask_folder(eval_masks, image_set.images)  # a fault is found before training and not after it
    pretrain(out, images, data, split, masks, resume, seed, saliency, model, views, objective, training)
    clustered = eval_masks or masks or out / "proposals"
    if foreground == "masks" and clustered == out / "proposals" and data is not None and evaluated != split:
        clustered = out / f"proposals_{evaluated}"
        generate_proposals(image_set, clustered, saliency, None)
    cluster_with = functools.partial(
        cluster,
        out,
        data=data,
        images=images,
        split=evaluated,
        num_clusters=num_clusters,
        foreground=foreground,
        masks=clustered if foreground == "masks" else None,
        classes=classes,
        seeds=seeds,
        protocol=protocol,
        image_size=image_size,
    )
    initial = _cluster_before_training(cluster_with, out, model) if image_set.labels is not None else None
    final = cluster_with(out=out / "clusters", weights="final")
    _print_gain(initial, final, seeds)
    return RunResult(report(out), final, initial)


def check_labels(images: ImageSet) -> None:
    """Read every label map of a set, so that a fault is found before training and not after it.

    Images that cannot be opened are passed over, because clustering leaves them out.

    Raises:
        InputError: a label map is missing or broken, has another size than its image, or holds a class at or above
            the number of classes; names the first and counts them.
    """
    if images.labels is None:
        return
    with ThreadPoolExecutor() as pool:
        faults = [fault for fault in pool.map(functools.partial(_label_fault, images), images.images) if fault]
    if faults:
        raise InputError(
            f"{len(faults)} of {len(images)} label maps of split {images.name} cannot be scored (check_data lists "
            f"every fault); the first: {faults[0]}"
        )


def _label_fault(images: ImageSet, ref: ImageRef) -> str | None:
    try:
        size = image_size(ref.path)
    except InputError:
        return None
    try:
        label_size = read_label(images, ref).shape
    except InputError as error:
        return str(error)
    if label_size == size:
        return None
    return (
        f"label map of image {ref.path} is {label_size[0]} x {label_size[1]}, the image {size[0]} x {size[1]} "
        "(height x width); make the label map at the image's size"
    )


def _cluster_before_training(
    cluster_with: Callable[..., ClusterResult], out: Path, model: ModelSettings
) -> ClusterResult | None:
    """Cluster with the initial weights; None, and a printed line, where that finds nothing to cluster.

    Where the encoder came with weights its own features are clustered: the head on them is still random, and beating
    a random head is no merit.
    """
    has_weights = (model.weights is not None or model.pretrained) and not model.whole_network
    features: FeatureMap = "encoder" if has_weights else "embedding"
    try:
        return cluster_with(out=out / "clusters_initial", weights="initial", features=features)
    except InputError as error:  # a saliency head that was not trained may find no foreground at all
        Console(stderr=True).print(
            f"no clusters before pretraining: {error}", highlight=False, markup=False, soft_wrap=True
        )
        return None


def _print_gain(initial: ClusterResult | None, final: ClusterResult, seeds: int) -> None:
    """Print the mIoU before and after training, where both are known."""
    if initial is None or initial.scores is None or final.scores is None:
        return
    Console(soft_wrap=True, highlight=False, markup=False).print(
        f"mIoU before pretraining {initial.scores.miou:.3f} \u00b1 {initial.scores.miou_std:.3f}, after "
        f"{final.scores.miou:.3f} \u00b1 {final.scores.miou_std:.3f} (same clustering, {seeds} seeds)"
    )
