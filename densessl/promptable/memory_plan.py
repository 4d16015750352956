"""How much work is done at a time within a bound on memory."""

import math
from dataclasses import dataclass

import torch

from densessl.errors import InputError
from densessl.promptable.framing import Frame
from densessl.promptable.mask_bands import BAND_VALUES
from densessl.promptable.prompts import MASK_SCALE

MAX_MEMORY_GB = 1.0
"""The default bound."""

_BYTES = 4
_GB = 10**9
_COPIES = 6
"""So many arrays of the size of an image embedding does the decoder hold for each prompt at its peak, either in the
two-way transformer or in the upscaling."""

_MOST_POINTS, _MOST_POINTS_CPU, _MOST_UPSCALED_CPU = 64, 4, 1
"""On a CPU few prompts at a time are fastest: what they take is then reused by the allocator instead of being mapped
anew by the system, and stays in the cache."""


@dataclass(frozen=True)
class MemoryPlan:
    """Prompts that are decoded at a time, and those of them whose masks are upscaled at a time."""

    num_points: int
    num_upscaled: int


def prompts_at_a_time(device: torch.device) -> int:
    """Return how many prompts at most go through the decoder at a time: more take gigabytes and are no faster."""
    return _MOST_POINTS_CPU if device.type == "cpu" else _MOST_POINTS


def plan_memory(frame: Frame, dim: int, max_memory_gb: float, device: torch.device) -> MemoryPlan:
    """Choose how many prompts go through the decoder at a time.

    frame: of the image. dim: channels of the embeddings. max_memory_gb: in 10^9 bytes, of what decoding and restoring
    masks take; weights, the encoder's own work, the image, the resulting runs and what the C library keeps of freed
    blocks (some 30 MB) come on top.

    Raises:
        InputError: not even one prompt fits.
    """
    (height, width), image_height = frame.grid, frame.image_size[0]
    point = _COPIES * height * width * dim * _BYTES
    sides = frame.scaled_size[0] + 2 * image_height  # a mask whose rows are at the image's size, its columns not yet
    restoring = (sides * MASK_SCALE * width + 8 * max(BAND_VALUES, image_height)) * _BYTES
    room = max_memory_gb * _GB - restoring
    if not room >= point:
        raise InputError(
            f"max_memory_gb is {max_memory_gb:g}, but one point on an image of {frame.image_size[0]} x "
            f"{frame.image_size[1]} pixels (height x width) takes {math.ceil((restoring + point) / 1e6) / 1e3:g}; give "
            "at least that"
        )
    num_points = max(1, min(prompts_at_a_time(device), int(room // point)))
    return MemoryPlan(num_points, min(num_points, _MOST_UPSCALED_CPU) if device.type == "cpu" else num_points)
