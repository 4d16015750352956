"""Self-distillation with no labels (DINO): the student's crops predict what the teacher says of other crops."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from densessl.errors import InputError


@dataclass(frozen=True)
class SelfDistillationSettings:
    """Temperatures and momenta of self-distillation; the defaults are DINO's (arXiv:2104.14294, appendix C).

    Args:
        student_temperature: divides the student's scores (published 0.1).
        first_teacher_temperature: divides the teacher's centred scores in the first epoch (published 0.04).
        teacher_temperature: the same after the warm-up (published 0.07).
        teacher_warmup_epochs: over which the teacher's temperature rises linearly, from epoch to epoch (published 30);
            0 starts with teacher_temperature.
        center_momentum: of the running mean that is taken off the teacher's scores (published 0.9).
        teacher_momentum: the teacher's weights move towards the student's by 1 less this in each step; it rises to 1
            along a cosine (published 0.996).
    """

    student_temperature: float = 0.1
    first_teacher_temperature: float = 0.04
    teacher_temperature: float = 0.07
    teacher_warmup_epochs: int = 30
    center_momentum: float = 0.9
    teacher_momentum: float = 0.996

    def __post_init__(self) -> None:
        for name in ("student_temperature", "first_teacher_temperature", "teacher_temperature"):
            if not getattr(self, name) > 0:
                raise InputError(f"dino.distillation.{name} is {getattr(self, name)}; it must be positive")
        if self.teacher_warmup_epochs < 0:
            raise InputError(
                f"dino.distillation.teacher_warmup_epochs is {self.teacher_warmup_epochs}; it must be 0 or more"
            )
        for name in ("center_momentum", "teacher_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"dino.distillation.{name} is {getattr(self, name)}; it must lie in [0, 1]")


class SelfDistillation(NamedTuple):
    """The loss, which takes gradient, and what is logged of it; in nats.

    teacher_entropy: mean over images and views. kl_divergence: mean over pairs, the loss less that entropy: of the
    student from the teacher, 0 where both give the same output for all crops (arXiv:2104.14294, section 5.3).
    """

    loss: torch.Tensor
    teacher_entropy: torch.Tensor
    kl_divergence: torch.Tensor


def self_distillation_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    center: torch.Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> SelfDistillation:
    """Return the mean over pairs of different crops of H(P_t(x), P_s(x')) (arXiv:2104.14294, equations 1 to 3).

    H(a, b) = -sum_k a_k log b_k, P_s = softmax(student / student_temperature), P_t = softmax((teacher - center) /
    teacher_temperature). x goes over the teacher's crops, x' over all others of the student; the mean is over pairs and
    images. Computed in float32, each softmax once: the sum over x is taken before the product with log P_s.

    Args:
        student: scores (num_crops, batch, num_outputs), crops that the teacher sees too first and in its order.
        teacher: scores (num_global, batch, num_outputs), at least one; no gradient flows.
        center: (num_outputs,).
        student_temperature, teacher_temperature: positive.

    Raises:
        ValueError: fewer than two crops, so that there is no pair.
    """
    num_crops, num_global = len(student), len(teacher)
    num_pairs = num_global * (num_crops - 1)
    if num_pairs < 1:
        raise ValueError(f"{num_crops} crops, {num_global} of them of the teacher, give no pair; draw at least two")
    log_targets = ((teacher.detach().float() - center) / teacher_temperature).log_softmax(-1)
    targets = log_targets.exp()
    log_predictions = (student.float() / student_temperature).log_softmax(-1)
    total = targets.sum(0)
    own = (targets * log_predictions[:num_global]).sum()  # pairs of a crop with itself
    loss = (own - (total * log_predictions.sum(0)).sum()) / (num_pairs * student.shape[1])
    entropy = -(targets * log_targets).sum(-1).mean()
    return SelfDistillation(loss, entropy, (loss - entropy).detach())


def updated_center(center: torch.Tensor, mean: torch.Tensor, momentum: float) -> torch.Tensor:
    """Return m c + (1 - m) mean of the teacher's scores (arXiv:2104.14294, equation 4).

    Args:
        center: (num_outputs,). mean: (num_outputs,), over all images, crops and processes of a step. momentum: m.
    """
    return momentum * center + (1 - momentum) * mean
