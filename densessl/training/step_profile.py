"""Where the time of a training step goes: a table of its stages and of the operations that take longest."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from densessl.files import write_text

STAGES = (
    "wait for data",
    "update twin",
    "teacher forward",
    "student forward",
    "query forward",
    "key forward",
    "contrastive loss",
    "saliency loss",
    "prototype loss",
    "distillation loss",
    "backward",
    "optimiser",
    "memory bank",
    "log and checkpoint",
)
"""The parts of a step, in order; `stage(name)` marks one."""

_NUM_SKIPPED = 3  # the first steps also build kernels and start the loader
_NUM_PROFILED = 8
_NUM_OPERATIONS = 20

Item = TypeVar("Item")


def stage(name: str) -> record_function:
    """Mark the code of a `with` block as one of `STAGES`; costs about a microsecond where nothing is profiled."""
    return record_function(name)


def waiting(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, with the time until each arrives marked as waiting for data."""
    while True:
        with stage("wait for data"):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


class StepProfile:
    """Profiles a few steps after the first ones and writes `profile.txt`; does nothing where it is not enabled.

    Args:
        run: the run folder.
        device: where the steps run; on a GPU, the time of its kernels is counted as well.
        is_enabled: whether to profile at all.
    """

    def __init__(self, run: Path, device: torch.device, *, is_enabled: bool) -> None:
        self._path = run / "profile.txt"
        self._device = device
        self._is_enabled = is_enabled
        self._num_steps = 0
        self._profiler: profile | None = None

    def stepped(self, *, is_last: bool) -> str | None:
        """Note that a step is done; returns the table, once, after the last profiled step, or why there is none."""
        if not self._is_enabled:
            return None
        self._num_steps += 1
        num_recorded = self._num_steps - _NUM_SKIPPED
        if is_last and num_recorded <= 0:
            return (
                f"no profile: {self._num_steps} steps were left and the first {_NUM_SKIPPED} are not counted, as they "
                "also build kernels; raise --training.epochs or lower --training.batch_size"
            )
        if num_recorded == 0:
            activities = [ProfilerActivity.CPU]
            if self._device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self._profiler = profile(activities=activities)
            self._profiler.start()
        if self._profiler is None or not (num_recorded == _NUM_PROFILED or is_last):
            return None
        self._profiler.stop()
        self._is_enabled = False
        text = _table(self._profiler, num_recorded, self._device)
        write_text(self._path, text)
        return text


def _table(profiler: profile, num_steps: int, device: torch.device) -> str:
    """Lay out the time of each stage and of the longest operations, in milliseconds a step."""
    events = profiler.key_averages()
    on_device = device.type == "cuda"
    total = {event.key: event.cpu_time_total for event in events if event.key in STAGES}
    kernels = {event.key: event.device_time_total for event in events if event.key in STAGES}
    sum_of_stages = sum(total.values()) or 1.0
    lines = [f"{num_steps} steps on {device.type}, milliseconds a step", ""]
    lines.append(f"{'stage':<24}{'time':>10}{'share':>9}" + (f"{'kernels':>10}" if on_device else ""))
    for name in STAGES:
        if name in total:
            line = f"{name:<24}{total[name] / num_steps / 1000:>10.2f}{total[name] / sum_of_stages:>9.1%}"
            lines.append(line + (f"{kernels[name] / num_steps / 1000:>10.2f}" if on_device else ""))
    lines += ["", f"{'operation':<44}{'time':>10}{'calls':>8}"]
    attribute = "self_device_time_total" if on_device else "self_cpu_time_total"
    operations = [event for event in events if event.key not in STAGES]
    for event in sorted(operations, key=lambda one: -getattr(one, attribute))[:_NUM_OPERATIONS]:
        time = getattr(event, attribute) / num_steps / 1000
        lines.append(f"{event.key[:43]:<44}{time:>10.2f}{event.count / num_steps:>8.0f}")
    return "\n".join(lines) + "\n"
