"""What the networks that learn from targets share: optimiser, learning rate, frozen batch norm, progress."""

from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from densessl.training.schedule import learning_rate_factor

MAX_WARMUP_STEPS = 20


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


def open_progress() -> Progress:
    """Return a progress bar on standard error, shown on terminals alone."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
