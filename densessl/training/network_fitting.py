"""What the networks that learn from targets share: optimiser, learning rate, frozen batch norm, steps, progress."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from densessl.errors import InputError
from densessl.training.sampler import BatchSampler
from densessl.training.schedule import learning_rate_factor

MAX_WARMUP_STEPS = 20
FEW_STEPS = 100
"""A round of fewer steps is said to be short."""


class FittingSettings(Protocol):
    """The settings of a training that are read here."""

    @property
    def epochs(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def encoder_lr_scale(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


class ImagesAndTargets(Protocol):
    """A batch. image: (batch, 3, height, width). target: what the images are to give, (batch, height, width)."""

    @property
    def image(self) -> torch.Tensor: ...
    @property
    def target(self) -> torch.Tensor: ...


Batch = TypeVar("Batch", bound=ImagesAndTargets)


@dataclass(frozen=True)
class FitOutcome:
    """loss: mean of the last epoch. seconds: of training. images_per_second: of training."""

    loss: float
    seconds: float
    images_per_second: float


def build_optimizer(network: nn.Module, encoder: nn.Module, settings: FittingSettings) -> torch.optim.Optimizer:
    """Return AdamW over a network, its encoder in a group of its own; one whose rate is 0 needs no gradient."""
    inside = {id(parameter) for parameter in encoder.parameters()}
    if settings.encoder_lr_scale == 0:
        encoder.requires_grad_(False)
    rest = [parameter for parameter in network.parameters() if id(parameter) not in inside]
    groups = [
        {"params": list(encoder.parameters()), "lr_scale": settings.encoder_lr_scale},
        {"params": rest, "lr_scale": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, settings: FittingSettings, step: int, steps_per_epoch: int
) -> None:
    """Set the rate of a step (0-based): a cosine after a warm-up of a tenth, at most `MAX_WARMUP_STEPS` steps."""
    factor = learning_rate_factor(
        "cosine",
        step,
        steps_per_epoch=steps_per_epoch,
        epochs=settings.epochs,
        warmup_steps=min(MAX_WARMUP_STEPS, steps_per_epoch * settings.epochs // 10),
    )
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * factor * group["lr_scale"]


def freeze_batch_norm(encoder: nn.Module) -> None:
    """Keep every batch norm of an encoder at the statistics that it has, until the next `train()`."""
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def fit_network(
    fabric: Fabric,
    optimizer: Any,
    batches: Iterable[Batch],
    sampler: BatchSampler,
    settings: FittingSettings,
    loss_of: Callable[[Batch], torch.Tensor],
    name: str,
    flags: str,
) -> FitOutcome:
    """Take a step for each batch; a line on standard error after each epoch.

    Args:
        fabric: device and precision, one process.
        optimizer: of the network, as Fabric has set it up.
        batches: of all steps.
        sampler: says how many steps there are, and how many in an epoch.
        settings: of the learning rate.
        loss_of: computes the loss of a batch, with gradient.
        name: of the training, for progress and errors.
        flags: the settings' name on the command line, for errors.

    Raises:
        InputError: a loss that is not a number.
    """
    total, num_seen, started = 0.0, 0, time.monotonic()
    with open_progress() as progress:
        task = progress.add_task(name, total=len(sampler))
        for step, batch in enumerate(batches):
            set_learning_rate(optimizer, settings, step, sampler.steps_per_epoch)
            value = descend(fabric, optimizer, loss_of(batch), step, settings, name, flags)
            total = value + (0.0 if step % sampler.steps_per_epoch == 0 else total)
            num_seen += len(batch.image)
            progress.advance(task)
            epoch, rest = divmod(step + 1, sampler.steps_per_epoch)
            if rest == 0:
                mean, seconds = total / sampler.steps_per_epoch, time.monotonic() - started
                _say_epoch(progress.console, name, epoch, settings.epochs, mean, num_seen, seconds)
    seconds = time.monotonic() - started
    return FitOutcome(total / sampler.steps_per_epoch, seconds, num_seen / max(seconds, 1e-9))


def descend(
    fabric: Fabric,
    optimizer: Any,
    loss: torch.Tensor,
    step: int,
    settings: FittingSettings,
    name: str,
    flags: str,
) -> float:
    """Change the weights by the gradient of a loss at a step (0-based), and return the loss.

    Raises:
        InputError: a loss that is not a number; the weights stay as they are.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(
            f"the loss became {value} at step {step + 1} of {name}; lower {flags}.learning_rate (now "
            f"{settings.learning_rate})"
        )
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()
    return value


def say_if_short(sampler: BatchSampler, name: str, flags: str) -> None:
    """Say on standard error that a round has few steps, and how many epochs would do; see `fit_network`."""
    if len(sampler) >= FEW_STEPS:
        return
    enough = math.ceil(FEW_STEPS / sampler.steps_per_epoch)
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
        f"{name}: the number of steps in this round is {len(sampler)}, few for a network to learn from; "
        f"--{flags}.epochs {enough} (now {sampler.epochs}) makes at least {FEW_STEPS}"
    )


def open_progress() -> Progress:
    """Return a progress bar on standard error, shown on terminals alone."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _say_epoch(
    console: Console, name: str, epoch: int, epochs: int, loss: float, num_seen: int, seconds: float
) -> None:
    """Say how a training stands; `seconds` have passed since it began, in which `num_seen` images were learned from."""
    left = seconds / epoch * (epochs - epoch) / 60
    rate = num_seen / max(seconds, 1e-9)
    text = f"{name}: epoch {epoch} of {epochs}  loss {loss:.4f}  {rate:.1f} images/s  {left:.1f} min left in this round"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
