"""Everything that a DINO pretraining changes: student, teacher, centre, optimiser."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from densessl.models.momentum_twin import make_twin
from densessl.models.self_distillation_network import SelfDistillationNetwork
from densessl.training.dino_settings import DinoScheduleSettings
from densessl.training.state import load_optimizer, same_architecture


@dataclass
class DinoState:
    """The mutable state of a run; anything random in a step follows from (seed, step, rank).

    center: float32 (num_outputs,), the running mean of the teacher's scores.
    """

    student: SelfDistillationNetwork
    teacher: SelfDistillationNetwork
    center: torch.Tensor
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def to_checkpoint(self) -> dict[str, Any]:
        """Return the state as tensors, numbers and dictionaries; the student is the `model`."""
        return {
            "model": self.student.state_dict(),
            "teacher": self.teacher.state_dict(),
            "center": self.center,
            "optimizer": self.optimizer.state_dict(),
            "seconds": self.seconds,
        }

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over a checkpoint's content; raises `InputError` where it belongs to another architecture."""
        with same_architecture(checkpoint):
            self.student.load_state_dict(checkpoint["model"])
            self.teacher.load_state_dict(checkpoint["teacher"])
            self.center.copy_(checkpoint["center"])
            load_optimizer(self.optimizer, checkpoint["optimizer"])
        self.step, self.seconds = int(checkpoint["step"]), float(checkpoint["seconds"])


def new_dino_state(student: SelfDistillationNetwork, schedule: DinoScheduleSettings) -> DinoState:
    """Assemble the state before the first step: a teacher that equals the student, and a centre of zero.

    The teacher stays in evaluation mode, where no branch is left out; nothing else in it depends on the mode.
    """
    teacher = make_twin(student).eval()
    if not isinstance(teacher, SelfDistillationNetwork):
        raise TypeError(f"a copy of the student is a {type(teacher).__name__}")
    center = torch.zeros(student.head.last_layer.direction.shape[0])
    return DinoState(student, teacher, center, build_dino_optimizer(student, schedule))


def build_dino_optimizer(student: nn.Module, schedule: DinoScheduleSettings) -> torch.optim.Optimizer:
    """Return AdamW over the trained parameters; biases and norms (vectors) are in a group that does not decay.

    The step sets learning rate and weight decay; groups that decay say so in `decays`.
    """
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if (parameter.ndim > 1) == decays], "decays": decays}
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, weight_decay=0.0, fused=True)
