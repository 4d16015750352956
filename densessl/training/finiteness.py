"""Losses, gradients and weights that are no numbers end a run before they reach a checkpoint."""

import math
from typing import ClassVar, Protocol

import torch
from lightning_fabric import Fabric
from torch.distributed.tensor import DTensor

from densessl.errors import InputError
from densessl.training.step import StepResult


class RateSettings(Protocol):
    """The settings of a training that its errors name; `section` is the group of flags that they stand in."""

    section: ClassVar[str]

    @property
    def learning_rate(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...


def check_loss(fabric: Fabric, result: StepResult, step: int, training: RateSettings) -> None:
    """Refuse a loss that is no number; where one process has it all raise together, so that none waits for another.

    Args:
        fabric: the processes; all call together.
        result: of the step.
        step: its number, from 1.
        training: names the values to change.

    Raises:
        InputError: the loss of this process or of another is infinite or not a number.
    """
    swav = "" if result.swav_loss is None else f", swav {float(result.swav_loss):.4g}"
    parts = f"contrastive {float(result.term.loss.detach()):.4g}, saliency {float(result.saliency_loss):.4g}{swav}"
    check_loss_value(fabric, result.loss, parts, step, training)


def check_loss_value(fabric: Fabric, loss: torch.Tensor, parts: str, step: int, training: RateSettings) -> None:
    """Refuse a loss that is no number, as `check_loss` does; `parts` says what it is made of, in words."""
    is_finite = torch.isfinite(loss.detach())
    if float(torch.as_tensor(fabric.all_reduce(is_finite.float()))) < 1:  # the mean over the processes
        value = "not finite in another process" if bool(is_finite) else float(loss.detach())
        raise InputError(f"the loss became {value} at step {step} ({parts}); {_remedy(training)}")


def check_gradient(norm: torch.Tensor, step: int, training: RateSettings) -> None:
    """Refuse a gradient that cannot be clipped, as its norm is no number; all processes hold the same norm.

    Args:
        norm: of the gradient of all weights, before it was clipped.
        step: its number, from 1.
        training: names the values to change.

    Raises:
        InputError: the norm is infinite or not a number.
    """
    value = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    if not math.isfinite(value):
        raise InputError(f"the norm of the gradient became {value} at step {step}; {_remedy(training)}")


def check_weights(weights: dict[str, torch.Tensor], step: int, training: RateSettings) -> None:
    """Refuse to save weights that a step with a finite loss but broken gradients has spoilt.

    Args:
        weights: the network's state dictionary.
        step: the number of steps done.
        training: names the values to change.

    Raises:
        InputError: a tensor holds an infinite value or one that is not a number.
    """
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(
            f"{len(broken)} weights, {broken[0]} the first, are not finite after step {step}; {_remedy(training)}"
        )


def _remedy(training: RateSettings) -> str:
    """Say what to change; a run goes on with its own settings only, so that other ones are for a new run."""
    section = training.section
    clips = f"lower {section}.max_grad_norm (now {training.max_grad_norm})"
    return (
        f"training stopped and the last good checkpoint is kept. Lower {section}.learning_rate (now "
        f"{training.learning_rate}), {clips if training.max_grad_norm else f'set {section}.max_grad_norm'}, or use "
        "training.precision fp32, in a new run in another folder"
    )
