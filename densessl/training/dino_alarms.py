"""Alarms of a DINO pretraining, read off its log lines."""

import math
from collections.abc import Mapping

from densessl.training.alarms import Alarm, AlarmKind, AlarmMemory, data_bound
from densessl.training.dino_settings import DinoRun

LEAST_DIVERGENCE = 1e-3
"""Of the student from the teacher, in nats; 0 is an output that is the same for all crops (arXiv:2104.14294, section
5.3)."""
EVEN_ENTROPY = 0.9
"""Share of the largest entropy above which an output that does not change is even, and else one-sided."""
JUDGED_AFTER_STEPS = 300
"""Random weights say nearly the same of all images."""


class DinoWatch:
    """Watches a DINO pretraining (`densessl.training.alarms.Watch`); `run` are its settings."""

    def __init__(self, run: DinoRun) -> None:
        self._run = run
        self._memory = AlarmMemory()

    def inspect(self, line: Mapping[str, float]) -> tuple[Alarm, ...]:
        """Take the next log line; returns the alarms that begin with it. Quantities a line lacks are not judged."""
        remedy = "set --dino.crops.reduce_images true where images are large"
        faults: dict[AlarmKind, str | None] = {
            "collapse": self._collapse(line),
            "data_bound": data_bound(line, self._run.training.num_workers, remedy),
        }
        return self._memory.begun(int(line["step"]), faults)

    def _collapse(self, line: Mapping[str, float]) -> str | None:
        divergence, entropy = line.get("kl_divergence", math.inf), line.get("teacher_entropy", math.nan)
        if line["step"] <= JUDGED_AFTER_STEPS or divergence >= LEAST_DIVERGENCE:
            return None
        highest, distillation = math.log(self._run.dino.head.num_outputs), self._run.dino.distillation
        found = f"the output collapses: student and teacher say the same of all crops (KL {divergence:.2g}, alarm below"
        if entropy > EVEN_ENTROPY * highest:
            return (
                f"{found} {LEAST_DIVERGENCE}), all outputs alike (entropy {entropy:.2f} of {highest:.2f}); lower "
                f"--dino.distillation.teacher_temperature (now {distillation.teacher_temperature}) and "
                f"first_teacher_temperature (now {distillation.first_teacher_temperature})"
            )
        return (
            f"{found} {LEAST_DIVERGENCE}), few outputs alone (entropy {entropy:.2f} of {highest:.2f}); lower "
            f"--dino.distillation.center_momentum (now {distillation.center_momentum}), or raise teacher_temperature "
            f"(now {distillation.teacher_temperature})"
        )
