"""The stage `train_promptable`: a promptable model from images and masks of any source."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.pretrain_claim import check_same_images, claim_run, holds_training
from densessl.commands.provenance import first_weights_provenance
from densessl.commands.unused_saliency import refuse_saliency_beside_masks
from densessl.data.layouts import open_images
from densessl.data.object_masks import ChosenObjects, ObjectSettings, open_objects
from densessl.errors import InputError
from densessl.files import make_folder, write_json
from densessl.models.weights import WeightReport
from densessl.promptable.promptable_model import PromptableModel, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import (
    encoder_of_run,
    is_of_run,
    load_backbone_weights,
    load_promptable_model,
    save_promptable_model,
)
from densessl.saliency.generation import generate_proposals
from densessl.saliency.mask_provenance import masks_provenance
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageRef, ImageSet, Provenance, Rejection
from densessl.training.devices import make_fabric
from densessl.training.promptable_settings import InteractionSettings, PromptableTrainingSettings
from densessl.training.promptable_training import PromptableResult, train_promptable_model
from densessl.training.run_folder import environment_record, plain, record_run
from densessl.training.usable_images import images_with_objects

NETWORK_FILE = "network.safetensors"
_FREE_ON_RESUME = {
    *("training.num_workers", "training.log_every", "training.keep_checkpoints"),
    *("training.cache", "training.cache_gb"),
}


@checked_arguments
def train_promptable(
    out: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    masks: Path | None = None,
    weights: Path | None = None,
    backbone: Path | None = None,
    pretrained: bool = False,
    resume: bool = False,
    seed: int = 0,
    saliency: SaliencySettings = SaliencySettings(),
    objects: ObjectSettings = ObjectSettings(),
    model: PromptableSettings = PromptableSettings(),
    interaction: InteractionSettings = InteractionSettings(),
    training: PromptableTrainingSettings = PromptableTrainingSettings(),
) -> PromptableResult:
    """Train a promptable model on the objects of images, prompted and corrected by a simulated user as SAM was.

    Args:
        out: the run folder; it receives configuration, record, metrics, checkpoints and network.safetensors, which
            `densessl.Predictor.from_weights` loads.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images); of it only the images are read.
        split: the split of --data to train on.
        masks: the objects: a folder of `saliency` or of `segment --everything true`, a COCO instances json, or a folder
            of id maps (VOC's SegmentationObject or SegmentationClass) or masks. Without it masks are proposed first,
            into OUT/proposals.
            Masks that people drew make the model a supervised one; its file says where its masks came from.
        weights: a promptable model to begin with: SAM's, MobileSAM's, or one of this command; it brings its settings.
            One on a timm backbone goes on at another model.size_px, where the rest of model is as in the file. Where
            all of model has its defaults, all of it is the file's, its size too.
        backbone: a file with the weights of the timm backbone to begin with. Of a run's final.safetensors the encoder
            is taken too, where model.encoder is left out; of other files name it there.
        pretrained: let timm download its published weights of the backbone.
        resume: go on from the last checkpoint in --out, with the same configuration.
        seed: of everything random.
        saliency: how masks are proposed where none are given.
        objects: which masks are objects.
        model: the network.
        interaction: how the user is simulated.
        training: the schedule.

    Returns:
        What the run did: steps, seconds, last loss.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    refuse_saliency_beside_masks(masks, saliency)
    model = with_encoder_of_run(model, backbone)
    network, report, supervision = initial_model(model, weights, backbone, seed, pretrained=pretrained)
    image_set = open_images(images, data, split, out)
    make_folder(out)
    fabric = make_fabric(training.precision)
    is_resumed = resume and holds_training(out, NETWORK_FILE)
    if fabric.is_global_zero:
        places = {"images": images, "data": data, "masks": masks, "weights": weights, "backbone": backbone}
        config: dict[str, Any] = {
            **{name: path and path.resolve() for name, path in places.items()},
            "split": split,
            "pretrained": pretrained,
            "seed": seed,
            "saliency": saliency,
            "objects": objects,
            "model": network.settings,
            "interaction": interaction,
            "training": training,
        }
        defaults = {"model": PromptableSettings(), "training": PromptableTrainingSettings()}
        defaults = {**config, **defaults, "interaction": InteractionSettings()}
        claim_run(out, config, _FREE_ON_RESUME, defaults, resume, NETWORK_FILE)
        record_run(out, **environment_record(fabric.device), seed=seed)
    with fabric.rank_zero_first():
        chosen = _objects(image_set, masks, out, saliency, objects)
    usable, left_out = images_with_objects(image_set, chosen)
    provenance = Provenance(backbone=supervision, masks=masks_provenance(masks or out / "proposals"))
    if fabric.is_global_zero:
        check_same_images(out, usable, is_resumed)
        _report_start(out, usable, left_out, chosen, provenance)
    result = train_promptable_model(
        fabric,
        network,
        usable,
        chosen,
        out,
        interaction,
        training,
        seed,
        has_weights=report is not None or pretrained,
        resume=resume,
    )
    if fabric.is_global_zero:
        save_promptable_model(out / NETWORK_FILE, network, _supervision(provenance))
        record_run(out, seconds=round(result.seconds, 3), num_steps=result.num_steps, finished=True)
        _print(f"{result.num_steps} steps in {result.seconds:.0f} s; the model: {out / NETWORK_FILE}")
    return result


def with_encoder_of_run(settings: PromptableSettings, backbone: Path | None) -> PromptableSettings:
    """Return the settings with the encoder that a run's weights name, where their own is the default."""
    if backbone is None or settings.encoder != PromptableSettings.encoder or not is_of_run(backbone):
        return settings
    return replace(settings, encoder=encoder_of_run(backbone))


def initial_model(
    settings: PromptableSettings, weights: Path | None, backbone: Path | None, seed: int, *, pretrained: bool
) -> tuple[PromptableModel, WeightReport | None, str]:
    """Return the model with its first weights, what was loaded, and which labels those weights saw, in words.

    Raises:
        InputError: several sources of weights, settings beside a file that brings its own, or a file that does not fit.
    """
    given = [name for name, is_given in (("weights", weights), ("backbone", backbone)) if is_given is not None]
    given += ["pretrained"] if pretrained else []
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are given, but training begins with one of them; leave the other out")
    torch.manual_seed(seed)
    if weights is not None:
        model, report = load_promptable_model(weights)
        if settings not in (PromptableSettings(), model.settings):
            model = _at_size_of(settings, model, weights)
        _print(f"the model of weights {weights}: {model.settings.encoder}, images of {model.settings.size_px} px")
        return model, report, report.supervision
    model = build_promptable_model(settings, pretrained=pretrained)
    if backbone is None:
        return model, None, first_weights_provenance(settings.encoder, None, pretrained=pretrained)
    report = load_backbone_weights(model, backbone)
    _print(report.describe())
    return model, report, first_weights_provenance(settings.encoder, report, pretrained=False)


def _at_size_of(settings: PromptableSettings, model: PromptableModel, weights: Path) -> PromptableModel:
    """Return a model with the same weights for images of another size; raises `InputError` for other differences."""
    if settings.is_sam_encoder or replace(settings, size_px=model.settings.size_px) != model.settings:
        raise InputError(
            f"weights {weights} bring their own model settings, and other ones are given; leave the section model out, "
            "give it as it is in the file but for size_px (timm backbones alone), or begin with --backbone"
        )
    resized = build_promptable_model(settings)
    resized.load_state_dict(model.state_dict())
    return resized


def _objects(
    images: ImageSet, masks: Path | None, out: Path, saliency: SaliencySettings, settings: ObjectSettings
) -> ChosenObjects:
    if masks is None:
        generate_proposals(images, out / "proposals", saliency, None)
    return open_objects(masks or out / "proposals", images.images, settings)


def _supervision(provenance: Provenance) -> str:
    """Say which labels touched the model; words for its masks that its first weights begin with are not said twice."""
    masks = f"masks: {provenance.masks}; first weights: "
    return provenance.backbone if provenance.backbone.startswith(masks) else masks + provenance.backbone


def _report_start(
    run: Path,
    usable: tuple[ImageRef, ...],
    left_out: tuple[Rejection, ...],
    objects: ChosenObjects,
    provenance: Provenance,
) -> None:
    """Write and print what is trained on, and what is left out."""
    _print(f"{len(usable)} of {len(usable) + len(left_out)} images have an object ({objects.source.describe()})")
    _print(f"initial weights: {provenance.backbone}; masks: {provenance.masks}")
    write_json(run / "left_out.json", [{"stem": item.stem, "reason": item.reason} for item in left_out])
    record_run(run, provenance=plain(provenance), num_left_out=len(left_out))


def _print(line: str) -> None:
    Console(stderr=True).print(line, soft_wrap=True, highlight=False, markup=False)
