"""The loop over the steps of any training: progress, log, alarms, evaluation, checkpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lightning_fabric import Fabric

from densessl.errors import InputError
from densessl.training.alarms import Watch
from densessl.training.checkpoints import CheckpointKind, save_checkpoint
from densessl.training.finiteness import RateSettings, check_weights
from densessl.training.run_log import RunLog, last_logged_loss
from densessl.training.sampler import BatchSampler
from densessl.training.step_profile import StepProfile, stage, waiting
from densessl.training.throughput import ThroughputMeter

Batch = TypeVar("Batch", contravariant=True)
AnyBatch = TypeVar("AnyBatch")


class LoopSettings(RateSettings, Protocol):
    """The settings of a training that the loop reads."""

    @property
    def epochs(self) -> int: ...
    @property
    def log_every(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def keep_checkpoints(self) -> int: ...


class SteppedTraining(Protocol[Batch]):
    """A training as the loop sees it.

    seconds: that its steps took. step: steps done. kind: of its checkpoints.
    """

    seconds: float

    @property
    def step(self) -> int: ...
    @property
    def kind(self) -> CheckpointKind: ...

    def take_step(self, batch: Batch) -> float:
        """Learn from a batch, count the step, and return its loss."""
        ...

    def describe(self, batch: Batch) -> dict[str, float]:
        """Return what the log says of the step that was taken last, its `loss` among it."""
        ...

    def is_judged(self) -> bool:
        """Say whether the network is evaluated after the step that was taken last."""
        ...

    def judge(self) -> dict[str, float]:
        """Evaluate the network; the numbers join the log line."""
        ...

    def to_checkpoint(self) -> dict[str, Any]:
        """Return all that later steps depend on, the network under `model`; all processes call together."""
        ...


def run_steps(
    fabric: Fabric,
    training: SteppedTraining[AnyBatch],
    batches: Iterator[AnyBatch],
    sampler: BatchSampler,
    run: Path,
    settings: LoopSettings,
    watch: Watch | None,
    profiler: StepProfile,
    title: str = "pretrain",
) -> float:
    """Run the steps from `training.step` to the end; returns the last loss, the logged one where no step was left.

    Args:
        fabric: the processes.
        training: what is trained.
        batches: of the steps that are left.
        sampler: says how many steps there are, and how many images in each.
        run: the folder of log and checkpoints.
        settings: how often they are written.
        watch: raises alarms over the log lines.
        profiler: of the steps.
        title: what the progress bar is called.

    Raises:
        InputError: a disk that is full, or weights that are no numbers.
    """
    num_steps = sampler.steps_per_epoch * settings.epochs
    every = settings.checkpoint_every or sampler.steps_per_epoch
    with RunLog(run, num_steps, training.step, watch, is_shown=fabric.is_global_zero, title=title) as log:
        last_loss = last_logged_loss(run)
        meter = ThroughputMeter(sampler.images_per_step)
        for batch in waiting(batches):
            meter.loaded()
            last_loss = training.take_step(batch)
            training.seconds += meter.stepped()
            step = training.step
            log.advance(step)
            with stage("log and checkpoint"):
                is_judged = training.is_judged()
                if is_judged or step % settings.log_every == 0 or step == num_steps:
                    place = {"step": step, "epoch": (step - 1) // sampler.steps_per_epoch}
                    line = {**place, **training.describe(batch), **meter.read()}
                    if is_judged:
                        line |= training.judge()
                        meter.skip()
                    log.write(line)
                if step % every == 0 or step == num_steps:
                    _save_together(fabric, run / "checkpoints", training, settings)
            table = profiler.stepped(is_last=step == num_steps)
            if table is not None:
                log.say(table)
                meter.skip()
            meter.asked()
    return last_loss


def _save_together(fabric: Fabric, folder: Path, training: SteppedTraining[AnyBatch], settings: LoopSettings) -> None:
    """Let rank 0 write a checkpoint; where it cannot, all processes raise, so that none waits for another."""
    checkpoint, fault = {**training.to_checkpoint(), "world_size": fabric.world_size}, None
    if fabric.is_global_zero:
        try:
            check_weights(checkpoint["model"], training.step, settings)
            save_checkpoint(folder, training.step, checkpoint, settings.keep_checkpoints, training.kind)
        except InputError as error:
            fault = str(error)
    fault = fabric.broadcast(fault)
    if fault is not None:
        raise InputError(fault)
