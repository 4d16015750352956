"""Alarms of promptable training, read off its log lines."""

from collections.abc import Mapping

from densessl.training.alarms import Alarm, AlarmKind, AlarmMemory, data_bound
from densessl.training.promptable_settings import PromptableTrainingSettings

LEAST_IOU = 0.05
"""Of the masks after the last round with the objects; all-background masks, into which a diverged training falls, have
0, and masks of the whole image the mean share of the image that the objects cover."""
JUDGED_AFTER_STEPS = 300
"""Random weights need so many steps to find objects."""


class PromptableWatch:
    """Watches a promptable training (`densessl.training.alarms.Watch`); `training` are its settings."""

    def __init__(self, training: PromptableTrainingSettings) -> None:
        self._training = training
        self._memory = AlarmMemory()

    def inspect(self, line: Mapping[str, float]) -> tuple[Alarm, ...]:
        """Take the next log line; returns the alarms that begin with it. Quantities a line lacks are not judged."""
        faults: dict[AlarmKind, str | None] = {
            "data_bound": data_bound(line, self._training.num_workers, "set --training.cache_gb"),
            "empty_masks": self._empty_masks(line),
        }
        return self._memory.begun(int(line["step"]), faults)

    def _empty_masks(self, line: Mapping[str, float]) -> str | None:
        iou = line.get("last_iou", 1.0)
        if iou >= LEAST_IOU or line["step"] <= JUDGED_AFTER_STEPS:
            return None
        return (
            f"the masks have left the objects: IoU {iou:.3f} after the last round (alarm below {LEAST_IOU}); lower "
            f"--training.learning_rate (now {self._training.learning_rate}), or set --training.max_grad_norm (now "
            f"{self._training.max_grad_norm})"
        )
