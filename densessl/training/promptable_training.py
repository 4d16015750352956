"""Trains a promptable model on objects: assembles model, data, optimiser and loop, and writes the run's files."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import nn

from densessl.data.object_masks import ChosenObjects
from densessl.errors import InputError
from densessl.models.dense_encoder import state_sha256
from densessl.models.precision import choose_memory_format
from densessl.promptable.backbone_encoder import BackboneEncoder
from densessl.promptable.object_views import ObjectBatch, ObjectViews, collate_objects
from densessl.promptable.promptable_model import PromptableModel
from densessl.structures import ImageRef
from densessl.training.batches import draw_batches
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.interaction import Interaction
from densessl.training.network_fitting import freeze_batch_norm
from densessl.training.promptable_alarms import PromptableWatch
from densessl.training.promptable_settings import InteractionSettings, PromptableTrainingSettings
from densessl.training.promptable_steps import PromptableSteps
from densessl.training.sampler import sampler_of
from densessl.training.state import load_optimizer, same_architecture
from densessl.training.step_profile import StepProfile
from densessl.training.stored_features import Encode, StoredFeatures, store_features
from densessl.training.training_loop import run_steps


@dataclass(frozen=True)
class PromptableResult:
    """What a finished training did.

    seconds: of its steps, interrupted parts included. final_loss: of the last one, NaN where a run has none.
    """

    run: Path
    num_steps: int
    seconds: float
    final_loss: float


def train_promptable_model(
    fabric: Fabric,
    model: PromptableModel,
    images: tuple[ImageRef, ...],
    objects: ChosenObjects,
    run: Path,
    interaction: InteractionSettings,
    training: PromptableTrainingSettings,
    seed: int,
    *,
    has_weights: bool,
    resume: bool = False,
) -> PromptableResult:
    """Train a model in place by simulated interaction; write checkpoints and metrics to the run folder.

    Args:
        fabric: device, precision and processes.
        model: with its initial weights.
        images: each with at least one object.
        objects: their objects.
        run: `checkpoints/`, `metrics.jsonl`, `tensorboard/`, and `features/` while it trains, are written there.
        interaction: how the user is simulated.
        training: the schedule.
        seed: of the order of images, the prompts and dropout.
        has_weights: the encoder begins with weights of a file, whose batch-norm statistics `batch_norm: auto` keeps.
        resume: go on from the last checkpoint, if there is one.

    Raises:
        InputError: no image, settings that do not fit the model, a checkpoint of another architecture, a full disk, or
            a loss that is not a number (the last good checkpoint is kept).
    """
    if not images:
        raise InputError("no image with an object is left to train on; look at the masks, and at objects.min_area")
    frozen = prepare_encoder(model, training.trained_encoder)
    model.to(memory_format=choose_memory_format("auto", model))  # type: ignore[call-overload]
    found = list_checkpoints(run / "checkpoints") if resume else []
    checkpoint = load_checkpoint(found[-1], PromptableSteps.kind) if found else None
    fabric.to_device(model)
    stored = None
    if frozen is not None and training.cache_gb:
        stored = _store(fabric, model, frozen, images, run, interaction, training)
    optimizer = build_optimizer(model, training)
    wrapped, wrapped_optimizer = fabric.setup(Interaction(model, interaction, training.trained_encoder), optimizer)
    step, seconds = (0, 0.0) if checkpoint is None else _load(model, optimizer, checkpoint)
    _set_modes(wrapped, model, training, has_weights=has_weights)
    sampler = sampler_of(fabric, len(images), training, seed, step)
    views = ObjectViews(images, objects, model.settings, interaction.choice, stored)
    batches: Iterator[ObjectBatch] = draw_batches(views, sampler, training.num_workers, collate_objects, fabric.device)
    steps = PromptableSteps(
        fabric, model, wrapped, cast(torch.optim.Optimizer, wrapped_optimizer), frozen, sampler, training, seed
    )
    steps.step, steps.seconds = step, seconds
    profiler, watch = StepProfile(run, fabric.device, is_enabled=False), PromptableWatch(training)
    loss = run_steps(fabric, steps, batches, sampler, run, training, watch, profiler, "train_promptable")
    model.eval()
    if fabric.is_global_zero and stored is not None and training.cache is None:
        shutil.rmtree(run / "features", ignore_errors=True)
    return PromptableResult(run, steps.step, steps.seconds, loss)


def prepare_encoder(model: PromptableModel, trained: Literal["all", "neck", "none"]) -> Encode | None:
    """Freeze what is not trained of an image encoder; returns the function that this part is, `None` without one.

    Raises:
        InputError: `neck` for an encoder that is no timm backbone.
    """
    encoder = model.image_encoder
    encoder.requires_grad_(trained == "all")
    match trained:
        case "all":
            return None
        case "none":
            return partial(_whole, encoder)
        case "neck":
            if not isinstance(encoder, BackboneEncoder):
                raise InputError(
                    f"training.trained_encoder is neck, but encoder {model.settings.encoder} is no timm backbone; "
                    "choose all or none"
                )
            encoder.requires_grad_(True)
            encoder.encoder.requires_grad_(False)
            return encoder.features


def build_optimizer(model: PromptableModel, training: PromptableTrainingSettings) -> torch.optim.Optimizer:
    """Return AdamW (betas 0.9 and 0.999, as published) over what is trained of a model.

    `encoder_lr_scale` is that of the groups of the image encoder, of a timm backbone without its neck, which is new;
    vectors (biases, norms) do not decay.
    """
    encoder = model.image_encoder
    begun = encoder.encoder if isinstance(encoder, BackboneEncoder) else encoder
    inside = {id(parameter) for parameter in begun.parameters()}
    groups = []
    for is_inside in (True, False):
        for is_matrix in (True, False):
            members = [
                parameter
                for parameter in model.parameters()
                if parameter.requires_grad
                and (id(parameter) in inside) == is_inside
                and (parameter.ndim > 1) == is_matrix
            ]
            scale = training.encoder_lr_scale if is_inside else 1.0
            decay = training.weight_decay if is_matrix else 0.0
            if members:
                groups.append({"params": members, "lr_scale": scale, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.999), fused=True)


def _whole(encoder: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (encoder(images),)


def _store(
    fabric: Fabric,
    model: PromptableModel,
    frozen: Encode,
    images: tuple[ImageRef, ...],
    run: Path,
    interaction: InteractionSettings,
    training: PromptableTrainingSettings,
) -> StoredFeatures:
    model.eval()
    is_neck_trained = training.trained_encoder == "neck" and isinstance(model.image_encoder, BackboneEncoder)
    part = model.image_encoder.encoder if is_neck_trained else model.image_encoder
    return store_features(
        fabric,
        frozen,
        images,
        model.settings,
        training.cache or run / "features",
        training.cache_gb * 1e9,
        training.num_workers,
        state_sha256(cast(nn.Module, part)),
        is_mirrored_too=interaction.flip,
    )


def _set_modes(
    wrapped: nn.Module, model: PromptableModel, training: PromptableTrainingSettings, *, has_weights: bool
) -> None:
    """Put what is trained into training mode, what is not into evaluation mode."""
    wrapped.train()
    if training.trained_encoder == "none":
        model.image_encoder.eval()
    elif training.trained_encoder == "neck":
        cast(BackboneEncoder, model.image_encoder).encoder.eval()
    elif training.batch_norm == "frozen" or (training.batch_norm == "auto" and has_weights):
        freeze_batch_norm(model.image_encoder)


def _load(model: PromptableModel, optimizer: torch.optim.Optimizer, checkpoint: dict[str, Any]) -> tuple[int, float]:
    """Take over a checkpoint; returns its step and seconds."""
    with same_architecture(checkpoint):
        model.load_state_dict(checkpoint["model"])
    _check_groups(optimizer, checkpoint)
    with same_architecture(checkpoint):
        load_optimizer(optimizer, checkpoint["optimizer"])
    return int(checkpoint["step"]), float(checkpoint["seconds"])


def _check_groups(optimizer: torch.optim.Optimizer, checkpoint: dict[str, Any]) -> None:
    """Raise `InputError` where a checkpoint of this very model holds other groups of parameters."""
    there, now = (
        [len(group["params"]) for group in groups]
        for groups in (checkpoint["optimizer"]["param_groups"], optimizer.param_groups)
    )
    if there != now:
        raise InputError(
            f"the checkpoint after step {checkpoint['step']} has other groups of parameters in its optimiser ({there} "
            f"there, {now} now): it was begun by an earlier version, or with another training.trained_encoder; resume "
            "with those, or start the training anew in another folder"
        )
