"""How many images fit into memory in one training step: a few small ones are measured, the rest follows from them."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.structures import LocalViews, ViewBatch

SHARE_OF_MEMORY = 0.8
"""Of the memory that is free; the rest is for the loader, evaluation, and the allocator's waste."""

TOLD_APART = 128 * 2**20
"""Bytes by which two peaks must differ: a CPU's allocator keeps some and gives some back, tens of MiB either way."""

_FEWEST = 2
_PROCESS = Path("/proc/self")
_SYSTEM_MEMORY = Path("/proc/meminfo")
_GROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


@dataclass
class Peak:
    """The most memory in use while it was measured, in bytes."""

    bytes: float = 0.0


def fitting_batch_size(peak_bytes: Callable[[int], float], usable_bytes: float, most: int) -> int:
    """Return the largest power of two, at most `most` and at least 1, whose step needs at most `usable_bytes`.

    Memory grows linearly with the number of images, above what the network itself takes. A step of 2 images is measured
    and one of 4, or of four times as many again and again until its peak can be told from the first, which for small
    networks takes many images.

    Args:
        peak_bytes: measures the peak memory of a step on so many images.
        usable_bytes: what may be in use at the peak, counted as `peak_bytes` counts.
        most: images that there are.
    """
    num = 2 * _FEWEST
    small, large = peak_bytes(_FEWEST), peak_bytes(num)
    while large - small < TOLD_APART and num < most:
        num = min(4 * num, most)
        large = peak_bytes(num)
    per_image = max((large - small) / (num - _FEWEST), 1.0)
    fixed = small - per_image * _FEWEST
    fitting = max(1, min(most, int((usable_bytes - fixed) // per_image)))
    return 1 << (fitting.bit_length() - 1)


@contextmanager
def measured_peak(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of what runs inside: allocated on a GPU, resident in this process on a CPU (Linux).

    Raises:
        InputError: a CPU under a system that does not say.
    """
    peak = Peak()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = float(torch.cuda.max_memory_allocated(device))
        return
    try:
        (_PROCESS / "clear_refs").write_text("5")  # the peak is now what is resident
    except OSError as error:
        raise InputError(
            "training.batch_size is 0, but this system does not say how much memory a step needs on the CPU "
            f"({error}); give a number (published 64)"
        ) from error
    yield peak
    peak.bytes = _kibibytes(_PROCESS / "status", "VmHWM") * 1024.0


def usable_memory(device: torch.device) -> float:
    """Return how many bytes may be in use at the peak: what is now, and `SHARE_OF_MEMORY` of what is free."""
    if device.type == "cuda":
        free_on_device, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_allocated(device) + SHARE_OF_MEMORY * free_on_device
    if not _SYSTEM_MEMORY.is_file():
        return 0.0
    free = _kibibytes(_SYSTEM_MEMORY, "MemAvailable") * 1024.0
    for limit, used in _GROUP_LIMITS:
        if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
            free = min(free, int(limit.read_text()) - int(used.read_text()))
    return _kibibytes(_PROCESS / "status", "VmRSS") * 1024.0 + SHARE_OF_MEMORY * free


def synthetic_batch(num_images: int, views: ViewSettings, *, has_confidence: bool = False) -> ViewBatch:
    """Return noise whose masks are the upper halves, of the sizes of these views, of which the masks may be sure."""
    images, masks, confidence = _halves((num_images,), views.size_px, has_confidence)
    local = None
    if views.num_local:
        local = LocalViews(*_halves((views.num_local, num_images), views.local_size_px, has_confidence))
    stems = tuple(str(number) for number in range(num_images))
    return ViewBatch(images, masks, images, masks, stems, local, confidence, confidence)


def _halves(
    shape: tuple[int, ...], size_px: int, has_confidence: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    images = torch.randn(*shape, 3, size_px, size_px)
    masks = torch.zeros(*shape, size_px, size_px, dtype=torch.int64)
    masks[..., : size_px // 2, :] = 1
    return images, masks, torch.ones(masks.shape) if has_confidence else None


def _kibibytes(path: Path, name: str) -> int:
    """Read a line such as `VmHWM:  1234 kB` of a file in /proc."""
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0])
