"""What changes from step to step of a DINO pretraining (arXiv:2104.14294), as pure functions of the step."""

import math
from typing import NamedTuple

from densessl.objectives.self_distillation import SelfDistillationSettings
from densessl.training.dino_settings import DinoRun


class DinoRates(NamedTuple):
    """Learning rate, weight decay, momentum of the teacher and its temperature in one step."""

    learning_rate: float
    weight_decay: float
    teacher_momentum: float
    teacher_temperature: float


def dino_rates(run: DinoRun, step: int, *, steps_per_epoch: int, images_per_step: int) -> DinoRates:
    """Return the rates of a step (0-based).

    Args:
        run: the settings.
        step: steps done.
        steps_per_epoch: steps of an epoch.
        images_per_step: over all processes; the learning rate is proportional to it.
    """
    schedule, distillation = run.dino.schedule, run.dino.distillation
    num_steps, warmup_steps = steps_per_epoch * run.epochs, steps_per_epoch * schedule.warmup_epochs
    highest = schedule.learning_rate * images_per_step / 256
    if step < warmup_steps:
        learning_rate = highest * (step + 1) / warmup_steps
    else:
        learning_rate = along_cosine(
            highest, schedule.final_learning_rate, step - warmup_steps, num_steps - warmup_steps
        )
    return DinoRates(
        learning_rate,
        along_cosine(schedule.weight_decay, schedule.final_weight_decay, step, num_steps),
        along_cosine(distillation.teacher_momentum, 1.0, step, num_steps),
        _teacher_temperature(distillation, step // steps_per_epoch),
    )


def along_cosine(start: float, end: float, step: int, num_steps: int) -> float:
    """Return end + (start - end) (1 + cos(pi step / num_steps)) / 2: from start at step 0 towards end."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * step / num_steps))


def _teacher_temperature(settings: SelfDistillationSettings, epoch: int) -> float:
    """Return the temperature of an epoch; the last one of the warm-up has the final value already."""
    if epoch >= settings.teacher_warmup_epochs:
        return settings.teacher_temperature
    done = epoch / max(1, settings.teacher_warmup_epochs - 1)
    first = settings.first_teacher_temperature
    return first + done * (settings.teacher_temperature - first)
