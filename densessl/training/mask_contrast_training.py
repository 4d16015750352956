"""The steps of a pretraining run: learning rate, twin, gradients, memory bank, what the log says of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric

from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.models.momentum_twin import update_twin
from densessl.structures import ViewBatch
from densessl.training.alarms import AlarmWatch
from densessl.training.checkpoints import FORMAT, CheckpointKind
from densessl.training.devices import share_buffers
from densessl.training.finiteness import check_gradient
from densessl.training.gradients import find_gradients, step_seed
from densessl.training.log_line import describe_batch, describe_step
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.sampler import BatchSampler
from densessl.training.schedule import learning_rate_factor
from densessl.training.settings import TrainingSettings
from densessl.training.state import TrainingState, set_learning_rate
from densessl.training.step import StepResult
from densessl.training.step_profile import StepProfile, stage
from densessl.training.training_loop import run_steps

Evaluate = Callable[[MaskContrastModel], dict[str, float]]
"""Judges the network in training; returns what joins the log line."""


def train(
    fabric: Fabric,
    state: TrainingState,
    wrapped: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[ViewBatch, int]],
    sampler: BatchSampler,
    run: Path,
    settings: PretrainSettings,
    evaluate: Evaluate | None,
    profiler: StepProfile,
) -> float:
    """Run the steps from `state.step` to the end; returns the last loss, the logged one where no step was left."""
    training = settings.training
    num_steps = sampler.steps_per_epoch * training.epochs
    watch = AlarmWatch(training, settings.objective, settings.views, num_steps, fabric.world_size)
    wrapped.train()
    steps = _Steps(fabric, state, wrapped, optimizer, sampler, settings, evaluate)
    return run_steps(fabric, steps, batches, sampler, run, training, watch, profiler)


class _Steps:
    """A pretraining as the loop takes it (`SteppedTraining`)."""

    kind: CheckpointKind = FORMAT

    def __init__(
        self,
        fabric: Fabric,
        state: TrainingState,
        wrapped: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        sampler: BatchSampler,
        settings: PretrainSettings,
        evaluate: Evaluate | None,
    ) -> None:
        self._fabric, self._state, self._wrapped, self._optimizer = fabric, state, wrapped, optimizer
        self._sampler, self._settings, self._evaluate = sampler, settings, evaluate
        self._result: StepResult | None = None
        self._learning_rate = 0.0

    @property
    def step(self) -> int:
        return self._state.step

    @property
    def seconds(self) -> float:
        return self._state.seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._state.seconds = value

    def take_step(self, batch: tuple[ViewBatch, int]) -> float:
        views, num_replaced = batch
        self._learning_rate = _set_scheduled_rate(self._state, self._sampler, self._settings.training)
        self._result = _take_step(self._fabric, self._state, self._wrapped, self._optimizer, views, self._settings)
        self._state.num_replaced += num_replaced
        return float(self._result.loss.detach())

    def describe(self, batch: tuple[ViewBatch, int]) -> dict[str, float]:
        if self._result is None:
            raise ValueError("no step was taken; describe the step after take_step")
        numbers = describe_step(self._result, self._state.bank)
        return {
            **numbers,
            **describe_batch(batch[0], self._state, self._fabric.device),
            "learning_rate": self._learning_rate,
        }

    def is_judged(self) -> bool:
        """Say whether a step is the last of an epoch after which the network is evaluated, or the last of all."""
        training = self._settings.training
        epochs_done, rest = divmod(self._state.step, self._sampler.steps_per_epoch)
        is_due = rest == 0 and (
            epochs_done == training.epochs or (training.evaluate_every and epochs_done % training.evaluate_every == 0)
        )
        return self._evaluate is not None and bool(is_due)

    def judge(self) -> dict[str, float]:
        is_needed = self._fabric.is_global_zero or self._settings.training.strategy == "fsdp"  # parts work together
        if not is_needed or self._evaluate is None:
            return {}
        return _evaluate_undisturbed(self._evaluate, self._state.model, self._wrapped)

    def to_checkpoint(self) -> dict[str, Any]:
        return self._state.to_checkpoint()


def _set_scheduled_rate(state: TrainingState, sampler: BatchSampler, training: TrainingSettings) -> float:
    """Set the learning rate of the step to come, and return it."""
    learning_rate = training.learning_rate * learning_rate_factor(
        training.schedule,
        state.step,
        steps_per_epoch=sampler.steps_per_epoch,
        epochs=training.epochs,
        warmup_steps=training.warmup_steps,
    )
    set_learning_rate(state.optimizer, learning_rate)
    return learning_rate


def _take_step(
    fabric: Fabric,
    state: TrainingState,
    wrapped: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: ViewBatch,
    settings: PretrainSettings,
) -> StepResult:
    """Update twin, network and memory bank by one batch."""
    training = settings.training
    torch.manual_seed(step_seed(settings.seed, state.step, fabric.global_rank))
    state.model.normalise_prototypes()
    with stage("update twin"):
        update_twin(state.twin, state.model, settings.objective.momentum)
        for network in (state.twin, state.model):
            share_buffers(fabric, network)
    optimizer.zero_grad()  # before the forward pass, so that gradients and features do not add up in memory
    result = find_gradients(fabric, state, wrapped, batch, settings)
    with stage("optimiser"):
        if training.max_grad_norm > 0:
            most = training.max_grad_norm
            norm = fabric.clip_gradients(wrapped, optimizer, max_norm=most, error_if_nonfinite=False)
            check_gradient(cast(torch.Tensor, norm), state.step + 1, training)
        optimizer.step()
    with stage("memory bank"):
        state.bank.enqueue(result.term.prototypes)
    state.step += 1
    return result


def _evaluate_undisturbed(evaluate: Evaluate, model: MaskContrastModel, wrapped: torch.nn.Module) -> dict[str, float]:
    """Evaluate the network and put it back into training mode; training's random numbers stay what they were.

    Batch-norm statistics do not change in evaluation mode, and no gradient is kept.
    """
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        model.eval()
        found = evaluate(model)
    wrapped.train()
    return found
