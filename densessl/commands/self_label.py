"""The stage `self_label`: rounds of self-training that turn clusters of masks into a segmentation network."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from densessl.changed_settings import changed_settings
from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.classes import ClassSelection, parse_classes
from densessl.commands.cluster import DEFAULT_NUM_CLUSTERS
from densessl.commands.self_label_output import (
    NetworkForeground,
    SelfLabelResult,
    Target,
    check_labelled,
    label_by_network,
    say_end,
    score_record,
    working_device,
    write_scores,
)
from densessl.commands.self_label_rounds import Task, run_rounds
from densessl.data.layouts import open_images
from densessl.data.masks import open_mask_folder
from densessl.errors import InputError
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.protocols import protocol_by_name
from densessl.evaluation.scores import check_classes
from densessl.files import file_sha256, make_folder, remove_abandoned_writes, write_json
from densessl.machine import loader_processes
from densessl.models.precision import on_device
from densessl.models.segmentation_network import load_segmentation_network
from densessl.structures import IGNORE, ImageSet
from densessl.training.run_folder import environment_record, plain
from densessl.training.self_labelling import SelfLabellingSettings


@checked_arguments
def self_label(
    out: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    masks: Path | None = None,
    run: Path | None = None,
    num_clusters: int | None = None,
    features: FeatureMap = "embedding",
    weights: Literal["final", "initial"] = "final",
    image_size: int | None = None,
    self_labelling: SelfLabellingSettings = SelfLabellingSettings(),
    seed: int = 0,
    eval_data: Path | None = None,
    eval_split: str | None = None,
    eval_masks: Path | None = None,
    foreground: NetworkForeground = "predicted",
    one_class_per_mask: bool = False,
    classes: ClassSelection = None,
    network: Path | None = None,
    resume: bool = False,
    batch_size: int = 8,
    num_workers: int = -1,
) -> SelfLabelResult:
    """Cluster masks, train a segmentation network on the confident ones, predict, train again: no label is read.

    Labels, where there are any, are only matched with the result to score it (docs/self_labelling.md).

    Args:
        out: receives network.safetensors, label_maps/, clusters.json, a folder for each round and, where there are
            labels, scores.json.
        images: a folder of images to learn from, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images).
        split: the split of --data to learn from.
        masks: a folder of masks for these images, with their soft maps below soft/ if there are any.
        run: the run folder of `pretrain`; its encoder also begins the segmentation network.
        num_clusters: clusters including the background; by default the number of classes that are scored, or 21.
        features: what is clustered: embedding (the trained head), decoder or encoder (the backbone's last feature map,
            the one to take for a run of 0 epochs).
        weights: final, or initial for the weights from before pretraining.
        image_size: height and width in pixels that images are resized to for clustering; by default 320.
        self_labelling: how the networks are trained.
        seed: of the clusters, of initial decoders, the order of images and views.
        eval_data: a data set in VOC or COCO layout whose images get label maps; by default --data.
        eval_split: the split of it; without one the images that are learned from get label maps.
        eval_masks: a folder of masks of these images, for --foreground masks; by default --masks, where they are the
            images that are learned from.
        foreground: predicted (the network's own background) or masks (the background of --eval_masks).
        one_class_per_mask: with --foreground masks, the class of highest summed logits for each mask as a whole.
        classes: the classes to score, such as 0,8,10; pixels of others are ignored.
        network: apply the network.safetensors of an earlier `self_label` to --images or --data; nothing is trained.
        resume: go on in --out with what an interrupted call with the same settings has left there.
        batch_size: images per forward pass while masks are embedded; it does not change the result.
        num_workers: loader processes while masks are embedded; -1 chooses by the number of cores.

    Raises:
        InputError: fewer confident images than clusters, missing masks, settings that contradict each other or, with
            --resume, the earlier ones; the message says what to change.
    """
    chosen = parse_classes(classes)
    if batch_size < 1 or seed < 0:
        raise InputError(f"batch_size is {batch_size} and seed {seed}; they must be at least 1 and 0")
    if network is not None:
        taught = changed_settings(self_labelling, SelfLabellingSettings())
        given = {
            "--run": run,
            "--num_clusters": num_clusters,
            "--masks": masks,
            "--eval_data": eval_data,
            "--eval_split": eval_split,
            "--resume": resume or None,
            "--image_size": image_size,
            "--seed": seed or None,
            "--features": None if features == "embedding" else features,
            "--weights": None if weights == "final" else weights,
            **{f"--self_labelling.{name}": value for name, value in taught.items()},
        }
        _refuse_with_network(network, given)
        shown = open_images(images, data, split)
        target = _target(shown, eval_masks, foreground, one_class_per_mask, chosen)
        return _apply(network, target, out)
    if run is None or masks is None:
        missing = "--run RUN, the folder of `pretrain`" if run is None else "--masks DIR, the folder of the masks"
        raise InputError(f"self_label needs {missing} (or --network FILE, to apply a network that is there)")
    found = open_images(images, data, split, out)
    learned = replace(found, labels=None, class_names=())  # no label is read from here on
    if eval_split is None:
        if eval_data is not None:
            raise InputError(f"--eval_data {eval_data} needs --eval_split, the split whose images get label maps")
        shown = open_images(images, data, split)
        eval_masks = masks if foreground == "masks" and eval_masks is None else eval_masks
    else:
        shown = open_images(None, eval_data or data, eval_split)
    target = _target(shown, eval_masks, foreground, one_class_per_mask, chosen)
    task = Task(
        out=out,
        learned=learned,
        masks=open_mask_folder(masks, learned.images),
        target=target,
        run=run,
        weights=weights,
        features=features,
        num_clusters=_count_clusters(num_clusters, target),
        protocol=protocol_by_name("native", image_size),
        settings=self_labelling,
        seed=seed,
        batch_size=batch_size,
        num_workers=loader_processes(num_workers),
    )
    return run_rounds(task, resume)


def _apply(path: Path, target: Target, out: Path) -> SelfLabelResult:
    """Label images with a network that is there."""
    network, header = load_segmentation_network(path)
    if (out / "self_label.json").is_file():
        raise InputError(f"{out} holds the rounds that trained a network; choose another folder for label maps (--out)")
    make_folder(out)
    remove_abandoned_writes(out)
    if (out / "labels.json").is_file():  # of an earlier call
        shutil.rmtree(out / "label_maps", ignore_errors=True)
        (out / "scores.json").unlink(missing_ok=True)
    labelled = label_by_network(target, on_device(network, working_device()), header, out / "label_maps")
    check_labelled(labelled, target)
    miou: tuple[float, ...] = ()
    if labelled.scores is not None:
        content = score_record(target, labelled.scores, header, f"network {path.name}", miou)
        write_scores(out / "scores.json", content, labelled.scores, target.images.class_names, str(path))
    record = {
        "network": {"path": path.resolve(), "sha256": file_sha256(path), **asdict(header)},
        "foreground": target.foreground,
        "masks": target.masks and target.masks.folder,
        "one_class_per_mask": target.one_class_per_mask,
        "rejected": [{"stem": stem, "reason": why} for stem, why in labelled.rejected],
        "environment": environment_record(working_device()),
    }
    write_json(out / "labels.json", plain(record))
    say_end(out, labelled)
    return SelfLabelResult(out, header.num_classes, labelled.num_images, labelled.scores, miou)


def _target(
    images: ImageSet,
    masks: Path | None,
    foreground: NetworkForeground,
    one_class_per_mask: bool,
    classes: tuple[int, ...] | None,
) -> Target:
    if foreground == "masks" and masks is None:
        raise InputError("--foreground masks needs --eval_masks DIR, the masks of the images that get label maps")
    if foreground == "predicted" and (masks is not None or one_class_per_mask):
        given = f"--eval_masks {masks}" if masks is not None else "--one_class_per_mask true"
        raise InputError(f"{given} is only used with --foreground masks, not predicted; add it or drop it")
    if images.class_names:
        check_classes(classes, len(images.class_names))
        classes = tuple(range(len(images.class_names))) if classes is None else classes
    opened = None if masks is None else open_mask_folder(masks, images.images)
    return Target(images, classes, foreground, opened, one_class_per_mask)


def _count_clusters(asked: int | None, target: Target) -> int:
    number = asked if asked is not None else len(target.classes or ()) or DEFAULT_NUM_CLUSTERS
    if not 2 <= number <= IGNORE:
        raise InputError(f"num_clusters is {number}; it counts the background, so it lies in 2-{IGNORE}")
    return number


def _refuse_with_network(network: Path, given: dict[str, object]) -> None:
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise InputError(
            f"--network {network} is applied as it is, so {', '.join(unused)} would not be used; leave "
            f"{'it' if len(unused) == 1 else 'them'} out (the images are --images, or --data with --split; masks for "
            "their background are --eval_masks)"
        )
