"""The MaskContrast pretraining loop."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from densessl.data.masks import MaskFolder
from densessl.data.views import PairedViews, ViewSettings
from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings
from densessl.models.momentum_twin import update_twin
from densessl.models.precision import choose_memory_format
from densessl.objectives.mask_contrast import ObjectiveSettings
from densessl.objectives.memory_bank import MemoryBank
from densessl.structures import ImageRef, ViewBatch
from densessl.training.batches import load_batches
from densessl.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from densessl.training.devices import gather_rows
from densessl.training.diagnostics import effective_rank, embedding_spread
from densessl.training.run_folder import save_weights
from densessl.training.run_log import RunLog, last_logged_loss
from densessl.training.sampler import BatchSampler
from densessl.training.schedule import learning_rate_factor
from densessl.training.settings import TrainingSettings
from densessl.training.state import TrainingState, new_state, set_learning_rate
from densessl.training.step import StepResult, training_step
from densessl.training.throughput import ThroughputMeter


@dataclass(frozen=True)
class PretrainSettings:
    """All settings of a pretraining run, as `pretrain` takes them."""

    model: ModelSettings = field(default_factory=ModelSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more")
        if self.model.embedding_of == "masks" and self.objective.resolution == "full":
            raise InputError(
                "objective.resolution is full, which repeats pixels, but model.embedding_of is masks; use grid"
            )
        if self.model.embedding_of == "masks" and self.objective.pixels_per_mask:
            raise InputError(
                f"objective.pixels_per_mask is {self.objective.pixels_per_mask}, but model.embedding_of is masks, "
                "whose rows are no pixels; use 0"
            )


@dataclass(frozen=True)
class PretrainResult:
    """What a finished run did.

    `seconds` counts interrupted parts too, `num_replaced` the images passed over; `final_loss` is that of the last
    step, NaN where a run has none.
    """

    run: Path
    num_steps: int
    seconds: float
    final_loss: float
    num_replaced: int


def pretrain_model(
    fabric: Fabric,
    model: MaskContrastModel,
    images: tuple[ImageRef, ...],
    masks: MaskFolder,
    run: Path,
    settings: PretrainSettings,
    *,
    neighbours: NDArray[np.int64] | None = None,
    resume: bool = False,
) -> PretrainResult:
    """Train the network on pairs of views and write checkpoints, metrics and the final weights to the run folder.

    Args:
        fabric: device, precision and processes (`densessl.training.devices.make_fabric`).
        model: the network with its initial weights.
        images: the images that have a usable mask.
        masks: their masks.
        run: the run folder; `checkpoints/`, `metrics.jsonl`, `initial.safetensors`, `final.safetensors` are written.
        settings: of the run.
        neighbours: (num_images, num_neighbours), rows of `images`, where `settings.views.neighbours` asks for them.
        resume: go on from the last checkpoint, if there is one.

    Raises:
        InputError: no image, a batch of one mask without a memory bank, a checkpoint of another architecture, or a
            loss that is not a number (the last good checkpoint is kept).
    """
    if not images:
        raise InputError("no image with a usable mask is left to train on; look at rejected.json of the masks")
    training = settings.training
    _check_negatives(len(images), fabric.world_size, masks, settings)
    found = list_checkpoints(run / "checkpoints") if resume else []
    checkpoint = load_checkpoint(found[-1]) if found else None
    if checkpoint is None and fabric.is_global_zero:
        save_weights(run / "initial.safetensors", model, settings.model)
    state = new_state(model, settings.model.embedding_dim, settings.objective, training, settings.seed)
    wrapped, optimizer = _set_up(fabric, state, choose_memory_format(training.memory_format, model))
    if checkpoint is not None:
        state.load_checkpoint(checkpoint)
    sampler = BatchSampler(
        len(images),
        training.batch_size,
        training.epochs,
        settings.seed,
        first_step=state.step,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    batches = load_batches(PairedViews(images, masks, settings.views, neighbours), sampler, training.num_workers)
    loss = _train(fabric, state, wrapped, optimizer, batches, sampler, run, settings)
    if fabric.is_global_zero:
        save_weights(run / "final.safetensors", state.model, settings.model)
    return PretrainResult(run, state.step, state.seconds, loss, state.num_replaced)


def _check_negatives(num_images: int, num_processes: int, masks: MaskFolder, settings: PretrainSettings) -> None:
    """Refuse batches of a single mask without a memory bank: nothing is pushed away, and the loss is zero."""
    num_seen = min(num_images, settings.training.batch_size) // num_processes
    is_merged = settings.views.neighbours > 0
    has_several = not is_merged and (
        settings.views.split_instances or masks.encoding in {"instances", "palette labels"}
    )
    if settings.objective.queue_length == 0 and num_seen == 1 and not has_several:
        raise InputError(
            "objective.queue_length is 0 and a process sees 1 image, so one mask, per step (training.batch_size "
            f"{settings.training.batch_size}, {num_images} usable images, {num_processes} processes): it has no "
            "negative, and the contrastive loss would be zero. Give objective.queue_length a length (published 128), "
            "raise training.batch_size, or set views.split_instances where images hold several objects"
        )


def _set_up(
    fabric: Fabric, state: TrainingState, memory_format: torch.memory_format
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Move the state to the device and wrap network and optimiser for the precision and the processes there are."""
    state.model.to(memory_format=memory_format)  # type: ignore[call-overload]
    state.twin.to(memory_format=memory_format)  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(state.model, state.optimizer)
    fabric.to_device(state.twin).train()
    fabric.to_device(state.bank)
    return wrapped, optimizer


def _train(
    fabric: Fabric,
    state: TrainingState,
    wrapped: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[ViewBatch, int]],
    sampler: BatchSampler,
    run: Path,
    settings: PretrainSettings,
) -> float:
    """Run the steps from `state.step` to the end; returns the last loss, the logged one where no step was left."""
    training, twin, bank = settings.training, state.twin, state.bank
    num_steps = sampler.steps_per_epoch * training.epochs
    every = training.checkpoint_every or sampler.steps_per_epoch
    with RunLog(run, num_steps, state.step, is_shown=fabric.is_global_zero) as log:
        last_loss = last_logged_loss(run)
        wrapped.train()
        meter = ThroughputMeter(training.batch_size)
        for batch, num_replaced in batches:
            meter.loaded()
            learning_rate = training.learning_rate * learning_rate_factor(
                training.schedule,
                state.step,
                steps_per_epoch=sampler.steps_per_epoch,
                epochs=training.epochs,
                warmup_steps=training.warmup_steps,
            )
            set_learning_rate(state.optimizer, learning_rate)
            torch.manual_seed(_step_seed(settings.seed, state.step, fabric.global_rank))
            update_twin(twin, state.model, settings.objective.momentum)
            result = training_step(
                fabric, wrapped, twin, bank.prototypes, batch, settings.objective, settings.model.embedding_of
            )
            _check_finite(result, state, training)
            optimizer.zero_grad()
            fabric.backward(result.loss)
            if training.max_grad_norm > 0:
                fabric.clip_gradients(wrapped, optimizer, max_norm=training.max_grad_norm)
            optimizer.step()
            prototypes = gather_rows(fabric, result.term.prototypes)
            bank.enqueue(prototypes)
            state.step += 1
            state.num_replaced += num_replaced
            state.seconds += meter.stepped()
            last_loss = float(result.loss.detach())
            log.advance(state.step)
            if state.step % training.log_every == 0 or state.step == num_steps:
                place = {"step": state.step, "epoch": (state.step - 1) // sampler.steps_per_epoch}
                rates = {"learning_rate": learning_rate, **meter.read()}
                log.write({**place, **_describe(result, prototypes, bank), **rates})
            if state.step % every != 0 and state.step != num_steps:
                continue
            _check_finite_weights(state, training)
            if fabric.is_global_zero:
                save_checkpoint(run / "checkpoints", state.step, state.to_checkpoint(), training.keep_checkpoints)
    return last_loss


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into one generator seed, so that a resumed run draws what the first would have."""
    return (seed * 1_000_003 + step * 9_973 + rank) % (2**63)


def _check_finite(result: StepResult, state: TrainingState, training: TrainingSettings) -> None:
    if not bool(torch.isfinite(result.loss)):
        raise InputError(
            f"the loss became {float(result.loss.detach())} at step {state.step + 1} (contrastive "
            f"{float(result.term.loss.detach()):.4g}, saliency {float(result.saliency_loss):.4g}); training stopped "
            f"and the last good checkpoint is kept. Lower training.learning_rate (now {training.learning_rate}), set "
            "training.max_grad_norm, or use training.precision fp32"
        )


def _check_finite_weights(state: TrainingState, training: TrainingSettings) -> None:
    """Refuse to save weights that a step with a finite loss but broken gradients has spoilt."""
    broken = [name for name, parameter in state.model.named_parameters() if not bool(torch.isfinite(parameter).all())]
    if broken:
        raise InputError(
            f"{len(broken)} weights, {broken[0]} the first, are not finite after step {state.step}; training stopped "
            f"and the last good checkpoint is kept. Lower training.learning_rate (now {training.learning_rate}), set "
            "training.max_grad_norm, or use training.precision fp32"
        )


def _describe(result: StepResult, prototypes: torch.Tensor, bank: MemoryBank) -> dict[str, float]:
    """Return the losses of a step and how far its embeddings spread.

    The spread is that of the memory bank, or of the batch's own prototypes while the bank still holds random vectors.
    """
    reference = bank.prototypes if bank.is_filled and bank.length > 1 else prototypes
    return {
        "loss": float(result.loss.detach()),
        "contrastive_loss": float(result.term.loss.detach()),
        "saliency_loss": float(result.saliency_loss),
        "positive_similarity": float(result.term.positive_similarity),
        "negative_similarity": float(result.term.negative_similarity),
        "embedding_spread": embedding_spread(reference),
        "effective_rank": effective_rank(reference),
    }
