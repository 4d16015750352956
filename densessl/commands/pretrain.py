"""The stage `pretrain`: pixel embeddings from images and masks, or a vision transformer from images alone."""

import math
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.neighbours import find_neighbours
from densessl.commands.online_evaluation import OnlineEvaluation, monitoring_note
from densessl.commands.pretrain_claim import check_same_images, claim_run, cpu_seconds, holds_training
from densessl.commands.pretrain_dino import ImageSource, check_dino, check_no_dino, pretrain_with_dino
from densessl.commands.provenance import first_weights_provenance
from densessl.commands.unused_saliency import refuse_saliency_beside_masks
from densessl.data.images import image_size
from densessl.data.layouts import open_images
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.data.view_settings import ViewSettings, finest_scale
from densessl.data.view_sources import source_size
from densessl.errors import InputError
from densessl.files import make_folder, read_json, write_json
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, build_model
from densessl.models.weights import load_encoder_weights, load_network_weights
from densessl.objectives.settings import ObjectiveSettings
from densessl.saliency.generation import generate_proposals
from densessl.saliency.mask_provenance import masks_provenance
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageRef, ImageSet, Provenance, Rejection
from densessl.training.batch_size import find_batch_size
from densessl.training.devices import make_fabric
from densessl.training.dino_settings import DinoRun, DinoSettings
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.pretraining import PretrainResult, pretrain_model
from densessl.training.run_folder import (
    environment_record,
    plain,
    read_config,
    record_run,
)
from densessl.training.settings import TrainingSettings
from densessl.training.usable_images import readable_images, usable_images

_LEFT_OUT_PRINTED = 5
_IMAGES_JUDGED = 64
_LARGE = 4
_FREE_ON_RESUME = {
    *("training.num_workers", "training.cache_gb", "training.cache", "training.strategy"),
    *("training.log_every", "training.keep_checkpoints"),
    *("training.evaluate_every", "training.evaluate_with_labels"),
}


@checked_arguments
def pretrain(
    out: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    masks: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    saliency: SaliencySettings = SaliencySettings(),
    model: ModelSettings = ModelSettings(),
    views: ViewSettings = ViewSettings(),
    objective: ObjectiveSettings = ObjectiveSettings(),
    training: TrainingSettings = TrainingSettings(),
    profile: bool = False,
    dino: DinoSettings = DinoSettings(),
) -> PretrainResult:
    """Train pixel embeddings with MaskContrast, or a vision transformer with DINO. No label touches the training.

    MaskContrast learns from images and their saliency masks; `--objective dino` from images alone, with the encoder,
    its weights and `pretrained` of the group model, and of the group training epochs, batch_size, precision,
    num_workers, checkpoints and log_every. What a method does not use must stay at its default.

    Args:
        out: the run folder; it receives configuration, record, metrics, checkpoints and final weights.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images).
        split: the split of --data to train on.
        masks: a folder of masks made elsewhere, one per image; without it masks are proposed first, into
            OUT/proposals (mask_contrast alone).
        resume: go on from the last checkpoint in --out, with the same configuration.
        seed: of everything random.
        saliency: how masks are proposed where none are given.
        model: the network.
        views: how the two views of an image are drawn.
        objective: the loss.
        training: the schedule.
        profile: write a table of where the time of a step goes to OUT/profile.txt, and print it.
        dino: DINO's own settings.

    Returns:
        What the run did: steps, seconds, last loss, images passed over.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    if objective.method == "dino":
        check_dino(masks, saliency, model, views, objective, training)
        source = ImageSource(images, data, split)
        dino_run = DinoRun(dino, training, seed)
        return pretrain_with_dino(out, source, model, objective, dino_run, resume=resume, profile=profile)
    check_no_dino(dino)
    refuse_saliency_beside_masks(masks, saliency, free=("keep_soft",))
    settings = PretrainSettings(model=model, views=views, objective=objective, training=training, seed=seed)
    if objective.confidence_weighted and masks is None and not saliency.keep_soft:
        raise InputError(
            "objective.confidence_weighted is true, but saliency.keep_soft is false, so that the proposed masks would "
            "come without the soft maps it needs; add --saliency.keep_soft true"
        )
    image_set = open_images(images, data, split, out)
    make_folder(out)
    fabric = make_fabric(training.precision, training.strategy)
    is_resumed = resume and holds_training(out)
    if training.batch_size == 0:
        known = int(read_config(out)["training"]["batch_size"]) if is_resumed else None
        training = replace(training, batch_size=known or find_batch_size(fabric, settings, len(image_set)))
        settings = replace(settings, training=training)
        if fabric.is_global_zero:
            _print(f"training.batch_size {training.batch_size}, found by what fits into memory")
    if fabric.is_global_zero:
        config = _configuration(images, data, split, masks, saliency, settings)
        defaults = _configuration(None, None, split, None, SaliencySettings(), PretrainSettings())
        claim_run(out, config, _FREE_ON_RESUME, defaults, resume)
        record_run(out, **environment_record(fabric.device), seed=seed)
    with fabric.rank_zero_first():
        mask_folder = _masks(image_set, masks, out, saliency)
    usable, left_out = _usable(image_set, mask_folder, out / "proposals" if masks is None else None, views)
    network, backbone = initial_network(model, seed)
    evaluate = None
    if training.evaluate_every:
        evaluate = OnlineEvaluation(image_set, usable, mask_folder, views.size_px, training, fabric.device)
    if fabric.is_global_zero:
        check_same_images(out, usable, is_resumed)
        _report_start(out, usable, left_out, mask_folder, backbone, views)
        notes = (monitoring_note(image_set),) if training.evaluate_with_labels else ()
        provenance = Provenance(backbone=backbone, masks=masks_provenance(masks or out / "proposals"), notes=notes)
        record_run(out, provenance=plain(provenance), num_left_out=len(left_out))
    neighbours = None
    if views.neighbours:
        if fabric.is_global_zero:
            neighbours = find_neighbours(
                out,
                network,
                usable,
                mask_folder,
                views.neighbours,
                views.neighbours_size_px,
                fabric.device,
                are_known=is_resumed,
            )
        neighbours = fabric.broadcast(neighbours)
    result = pretrain_model(
        fabric,
        network,
        usable,
        mask_folder,
        out,
        settings,
        neighbours=neighbours,
        evaluate=evaluate,
        resume=resume,
        profile=profile,
    )
    if fabric.is_global_zero:
        _report_end(result, len(left_out), is_resumed)
    return result


def _configuration(
    images: Path | None,
    data: Path | None,
    split: str,
    masks: Path | None,
    saliency: SaliencySettings,
    settings: PretrainSettings,
) -> dict[str, Any]:
    """Return what `config.yaml` holds: the flags of `pretrain`, without the run folder and `resume`."""
    return {
        "images": images and images.resolve(),
        "data": data and data.resolve(),
        "split": split,
        "masks": masks and masks.resolve(),
        "seed": settings.seed,
        "saliency": saliency,
        "model": settings.model,
        "views": settings.views,
        "objective": settings.objective,
        "training": settings.training,
    }


def initial_network(settings: ModelSettings, seed: int) -> tuple[MaskContrastModel, str]:
    """Build the network with its initial weights; also returns, in words, which labels those weights saw."""
    torch.manual_seed(seed)
    network = build_model(settings)
    report = None
    if settings.weights is not None:
        if settings.whole_network:
            report = load_network_weights(network, settings.weights)
        else:
            report = load_encoder_weights(network.encoder.backbone, settings.weights, encoder_name=settings.encoder)
        Console(stderr=True).print(report.describe(), highlight=False, markup=False, soft_wrap=True)
    return network, first_weights_provenance(settings.encoder, report, pretrained=settings.pretrained)


def _masks(images: ImageSet, masks: Path | None, out: Path, saliency: SaliencySettings) -> MaskFolder:
    if masks is not None:
        return open_mask_folder(masks, images.images)
    generate_proposals(images, out / "proposals", saliency, None)
    return open_mask_folder(out / "proposals", images.images)


def _usable(
    images: ImageSet, masks: MaskFolder, proposals: Path | None, views: ViewSettings
) -> tuple[tuple[ImageRef, ...], tuple[Rejection, ...]]:
    """Return the images to train on and those left out; `proposals` is the folder of masks that were proposed here."""
    usable, left_out = usable_images(images, masks, views.min_foreground, views.max_foreground)
    if proposals is None:
        readable, broken = readable_images(usable)
        return readable, left_out + broken
    rejected = read_json(proposals / "rejected.json", "the images that saliency rejected")
    reasons = {item["stem"]: item["reason"] for item in rejected}  # an image that cannot be read is among them
    return usable, tuple(Rejection(item.stem, reasons.get(item.stem, item.reason)) for item in left_out)


def _report_start(
    run: Path,
    usable: tuple[ImageRef, ...],
    left_out: tuple[Rejection, ...],
    masks: MaskFolder,
    backbone: str,
    views: ViewSettings,
) -> None:
    """Write `left_out.json`; print what is trained on and the first few images that are left out."""
    _print(f"{len(usable)} of {len(usable) + len(left_out)} images have a usable mask ({masks.describe()})")
    _print(f"initial weights: {backbone}")
    write_json(run / "left_out.json", [{"stem": item.stem, "reason": item.reason} for item in left_out])
    _report_size([item.path for item in usable], views)
    for item in left_out[:_LEFT_OUT_PRINTED]:
        _print(f"left out {item.stem}: {item.reason}")
    if len(left_out) > _LEFT_OUT_PRINTED:
        _print(f"and {len(left_out) - _LEFT_OUT_PRINTED} more, listed in {run / 'left_out.json'}")


def _report_size(images: list[Path], views: ViewSettings) -> None:
    """Say what would help where most images are far larger than views need, judged by a few."""
    sizes = [image_size(path) for path in images[:: -(-len(images) // _IMAGES_JUDGED)]]
    needed = [source_size(size, views.size_px, finest_scale(views)) for size in sizes]
    share = median(math.prod(size) / math.prod(least) for size, least in zip(sizes, needed, strict=True))
    if share >= _LARGE and not views.reduce_images:
        _print(
            f"images hold {share:.0f} times the pixels that views need: --views.reduce_images true reads them faster, "
            "with views that differ a little; --training.cache_gb keeps decoded ones on disk"
        )


def _report_end(result: PretrainResult, num_left_out: int, is_resumed: bool) -> None:
    """Record and print what a finished run did."""
    entries: dict[str, Any] = {
        "seconds": round(result.seconds, 3),
        "num_steps": result.num_steps,
        "num_replaced": result.num_replaced,
        "finished": True,
    }
    if not is_resumed:  # the time of interrupted parts is unknown
        entries["cpu_minutes"] = round(cpu_seconds() / 60, 2)
    record_run(result.run, **entries)
    _print(
        f"{result.num_steps} steps in {result.seconds:.0f} s; {num_left_out} images left out, "
        f"{result.num_replaced} times another image took the place of one without usable views; weights in "
        f"{result.run / 'final.safetensors'}"
    )


def _print(line: str) -> None:
    Console(stderr=True).print(line, soft_wrap=True, highlight=False, markup=False)
