"""The steps of a pretraining run: learning rate, twin, gradients, memory bank, log, checkpoints."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric

from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.models.momentum_twin import update_twin
from densessl.structures import ViewBatch
from densessl.training.alarms import AlarmWatch
from densessl.training.checkpoints import save_checkpoint
from densessl.training.devices import share_buffers
from densessl.training.finiteness import check_gradient, check_weights
from densessl.training.gradients import find_gradients, step_seed
from densessl.training.log_line import describe_batch, describe_step
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.run_log import RunLog, last_logged_loss
from densessl.training.sampler import BatchSampler
from densessl.training.schedule import learning_rate_factor
from densessl.training.settings import TrainingSettings
from densessl.training.state import TrainingState, set_learning_rate
from densessl.training.step import StepResult
from densessl.training.step_profile import StepProfile, stage, waiting
from densessl.training.throughput import ThroughputMeter

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
    every = training.checkpoint_every or sampler.steps_per_epoch
    watch = AlarmWatch(training, settings.objective, settings.views, num_steps, fabric.world_size)
    with RunLog(run, num_steps, state.step, watch, is_shown=fabric.is_global_zero) as log:
        last_loss = last_logged_loss(run)
        wrapped.train()
        meter = ThroughputMeter(sampler.images_per_step)
        for batch, num_replaced in waiting(batches):
            meter.loaded()
            learning_rate = _set_scheduled_rate(state, sampler, training)
            result = _take_step(fabric, state, wrapped, optimizer, batch, settings)
            state.num_replaced += num_replaced
            state.seconds += meter.stepped()
            last_loss = float(result.loss.detach())
            log.advance(state.step)
            with stage("log and checkpoint"):
                is_judged = evaluate is not None and _ends_evaluated_epoch(state.step, sampler, training)
                if is_judged or state.step % training.log_every == 0 or state.step == num_steps:
                    place = {"step": state.step, "epoch": (state.step - 1) // sampler.steps_per_epoch}
                    numbers = {**describe_step(result, state.bank), **describe_batch(batch, state, fabric.device)}
                    line = {**place, **numbers, "learning_rate": learning_rate, **meter.read()}
                    is_needed = fabric.is_global_zero or training.strategy == "fsdp"  # parts of a network work together
                    if is_judged and evaluate is not None and is_needed:
                        line |= _evaluate_undisturbed(evaluate, state.model, wrapped)
                        meter.skip()
                    log.write(line)
                if state.step % every == 0 or state.step == num_steps:
                    _save_together(fabric, run / "checkpoints", state, training)
            table = profiler.stepped(is_last=state.step == num_steps)
            if table is not None:
                log.say(table)
                meter.skip()
            meter.asked()
    return last_loss


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


def _save_together(fabric: Fabric, folder: Path, state: TrainingState, training: TrainingSettings) -> None:
    """Let rank 0 write a checkpoint; where it cannot, all processes raise, so that none waits for another."""
    checkpoint, fault = {**state.to_checkpoint(), "world_size": fabric.world_size}, None
    if fabric.is_global_zero:
        try:
            check_weights(checkpoint["model"], state.step, training)
            save_checkpoint(folder, state.step, checkpoint, training.keep_checkpoints)
        except InputError as error:
            fault = str(error)
    fault = fabric.broadcast(fault)
    if fault is not None:
        raise InputError(fault)


def _ends_evaluated_epoch(step: int, sampler: BatchSampler, training: TrainingSettings) -> bool:
    """Say whether a step is the last of an epoch after which the network is evaluated, or the last of all."""
    epochs_done, rest = divmod(step, sampler.steps_per_epoch)
    return rest == 0 and (epochs_done % training.evaluate_every == 0 or epochs_done == training.epochs)


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
