"""The stage `pretrain`: pixel embeddings from images and masks."""

from pathlib import Path

import torch
from rich.console import Console

from densessl.commands.provenance import masks_provenance
from densessl.data.layouts import open_images
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.data.views import ViewSettings
from densessl.errors import InputError
from densessl.files import make_folder, write_json
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, build_model
from densessl.models.weights import load_encoder_weights, load_network_weights
from densessl.objectives.mask_contrast import ObjectiveSettings
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageSet, Provenance, Rejection
from densessl.training.checkpoints import list_checkpoints
from densessl.training.devices import make_fabric
from densessl.training.pretraining import PretrainResult, PretrainSettings, pretrain_model
from densessl.training.run_folder import (
    check_same_config,
    environment_record,
    plain,
    record_run,
    write_config,
)
from densessl.training.settings import TrainingSettings
from densessl.training.usable_images import usable_images

_FREE_ON_RESUME = {"training.num_workers", "training.log_every", "training.keep_checkpoints"}


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
) -> PretrainResult:
    """Train pixel embeddings with MaskContrast on images and their saliency masks. No label is read.

    Args:
        out: the run folder; it receives configuration, record, metrics, checkpoints and final weights.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images).
        split: the split of --data to train on.
        masks: a folder of masks made elsewhere, one per image; without it masks are proposed first, into
            OUT/proposals.
        resume: go on from the last checkpoint in --out, with the same configuration.
        seed: of everything random.
        saliency: how masks are proposed where none are given.
        model: the network.
        views: how the two views of an image are drawn.
        objective: the loss.
        training: the schedule.

    Returns:
        What the run did: steps, seconds, last loss, images passed over.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    console = Console(stderr=True)
    settings = PretrainSettings(model=model, views=views, objective=objective, training=training, seed=seed)
    image_set = open_images(images, data, split)
    make_folder(out)
    config = {
        "images": images and images.resolve(),
        "data": data and data.resolve(),
        "split": split,
        "masks": masks and masks.resolve(),
        "seed": seed,
        "saliency": saliency,
        "model": model,
        "views": views,
        "objective": objective,
        "training": training,
    }
    fabric = make_fabric(training.precision)
    if fabric.is_global_zero:
        _claim(out, config, resume)
        record_run(out, **environment_record(fabric.device), seed=seed)
    with fabric.rank_zero_first():
        mask_folder = _masks(image_set, masks, out, saliency)
    usable, left_out = usable_images(image_set, mask_folder, views.min_foreground, views.max_foreground)
    network, backbone = initial_network(model, seed)
    if fabric.is_global_zero:
        console.print(f"{len(usable)} of {len(image_set)} images have a usable mask ({mask_folder.describe()})")
        console.print(f"initial weights: {backbone}")
        _record_left_out(out, left_out)
        provenance = Provenance(backbone=backbone, masks=masks_provenance(masks, saliency))
        record_run(out, provenance=plain(provenance), num_images=len(usable), num_left_out=len(left_out))
    result = pretrain_model(fabric, network, usable, mask_folder, out, settings, resume=resume)
    if fabric.is_global_zero:
        record_run(
            out,
            seconds=round(result.seconds, 3),
            num_steps=result.num_steps,
            num_replaced=result.num_replaced,
            finished=True,
        )
        console.print(
            f"{result.num_steps} steps in {result.seconds:.0f} s; {len(left_out)} images left out, "
            f"{result.num_replaced} times another image took the place of one without usable views; weights in "
            f"{out / 'final.safetensors'}",
            highlight=False,
        )
    return result


def initial_network(settings: ModelSettings, seed: int) -> tuple[MaskContrastModel, str]:
    """Build the network with its initial weights; also returns, in words, which labels those weights saw."""
    torch.manual_seed(seed)
    network = build_model(settings)
    if settings.weights is not None:
        if settings.whole_network:
            report = load_network_weights(network, settings.weights)
        else:
            report = load_encoder_weights(network.encoder.backbone, settings.weights, encoder_name=settings.encoder)
        Console(stderr=True).print(report.describe(), highlight=False)
        return network, report.supervision
    if settings.pretrained:
        return (
            network,
            f"timm's published weights for {settings.encoder} (see its model card for their labels)",
        )
    return network, "none (random weights)"


def _claim(run: Path, config: dict[str, object], resume: bool) -> None:
    """Make the folder this run's own, or check that it already is."""
    is_started = (run / "config.yaml").is_file()
    if is_started and resume:
        check_same_config(run, config, _FREE_ON_RESUME)
    elif is_started and (list_checkpoints(run / "checkpoints") or (run / "final.safetensors").is_file()):
        raise InputError(f"{run} already holds a run; add --resume true to go on with it, or choose another --out")
    write_config(run, config)


def _masks(images: ImageSet, masks: Path | None, out: Path, saliency: SaliencySettings) -> MaskFolder:
    if masks is not None:
        return open_mask_folder(masks, images.images)
    generate_proposals(images, out / "proposals", saliency, None)
    return open_mask_folder(out / "proposals", images.images)


def _record_left_out(run: Path, left_out: tuple[Rejection, ...]) -> None:
    write_json(run / "left_out.json", [{"stem": item.stem, "reason": item.reason} for item in left_out])
