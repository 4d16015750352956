"""What a prediction returns: masks with their scores; how they are measured, ranked and chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.promptable.framing import Frame, restore_logits

RankedSelection = Literal["best", "whole", "part", "subpart"]
Selection = Literal[RankedSelection, "fitting"]

_MAX_VALUES = 2**26
"""Logits at the image's size that are held at a time (256 MiB), unless one mask alone has more."""

_STABILITY_OFFSET = 1.0


@dataclass(frozen=True)
class PredictedMasks:
    """The masks of each prompt, the one of the highest predicted IoU first.

    masks: bool (num_prompts, num_masks, height, width), of the image's size.
    predicted_iou: float32 (num_prompts, num_masks), the network's estimate of the IoU with the object, about 0-1.
    stability: float32 (num_prompts, num_masks), see `stability_score`.
    area_px: int64 (num_prompts, num_masks).
    low_resolution: float32 (num_prompts, num_masks, 4 h, 4 w), logits; a further prediction takes them as `mask`.
    output: int64 (num_prompts, num_masks), which of the decoder's masks it is: 0 the single one, 1, 2, ... the others.
    """

    masks: NDArray[np.bool_]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    area_px: NDArray[np.int64]
    low_resolution: NDArray[np.float32]
    output: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.masks)

    def at(self, order: NDArray[np.int64]) -> "PredictedMasks":
        """Return the masks of each prompt at the places `order` (num_prompts, n), in that order."""
        prompt = np.arange(len(order))[:, None]
        return PredictedMasks(
            self.masks[prompt, order],
            self.predicted_iou[prompt, order],
            self.stability[prompt, order],
            self.area_px[prompt, order],
            self.low_resolution[prompt, order],
            self.output[prompt, order],
        )


def stability_score(logits: torch.Tensor, offset: float = _STABILITY_OFFSET) -> torch.Tensor:
    """Return the IoU of the masks at thresholds +offset and -offset (arXiv:2304.02643, appendix B), 0 for empty ones.

    logits: (..., height, width). Returns float32 (...), in [0, 1].
    """
    inner = (logits > offset).sum((-2, -1))
    outer = (logits > -offset).sum((-2, -1))
    return (inner / outer.clamp_min(1)).float()


def measure_masks(
    logits: torch.Tensor, predicted_iou: torch.Tensor, outputs: range, frame: Frame, num_kept: int
) -> PredictedMasks:
    """Bring the decoder's masks to the image's size and measure them there, ranked by predicted IoU.

    logits: (num_prompts, num_masks, 4 h, 4 w). predicted_iou: (num_prompts, num_masks). outputs: of the decoder, which
    they are. num_kept: of each prompt, those of the highest predicted IoU.
    """
    order = predicted_iou.float().argsort(dim=1, descending=True, stable=True)[:, :num_kept]
    ranked = logits.float().take_along_dim(order[..., None, None], dim=1)
    num_prompts, num_masks = order.shape
    num_pixels = max(frame.image_size[0] * frame.image_size[1], frame.padded_size[0] * frame.padded_size[1])
    parts = ranked.flatten(0, 1).split(max(1, _MAX_VALUES // num_pixels))
    measured = [_measure(part, frame) for part in parts]
    masks, stability, areas = (torch.cat(values).cpu().numpy() for values in zip(*measured, strict=True))
    return PredictedMasks(
        masks.reshape(num_prompts, num_masks, *frame.image_size),
        predicted_iou.float().take_along_dim(order, dim=1).cpu().numpy(),
        stability.reshape(num_prompts, num_masks),
        areas.reshape(num_prompts, num_masks),
        ranked.cpu().numpy(),
        order.cpu().numpy() + outputs.start,
    )


def join_masks(parts: Sequence[PredictedMasks]) -> PredictedMasks:
    """Return the masks of all prompts of at least one part, in their order."""
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in fields(PredictedMasks)]
    return PredictedMasks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def check_selection(selection: Selection, num_masks: int) -> None:
    """Raise `InputError` for a name that is no selection, or that means nothing among so many masks of a prompt."""
    if selection not in get_args(Selection):
        raise InputError(f"select is {selection!r}; it is one of {', '.join(get_args(Selection))}, or None for all")
    least = {"best": 1, "fitting": 1, "whole": 1, "subpart": 2, "part": 3}
    if num_masks < least[selection]:
        there_are = [name for name, count in least.items() if count <= num_masks]
        raise InputError(
            f"select {selection!r} needs {least[selection]} masks of a prompt, but this model's num_multimask is "
            f"{num_masks}; choose {' or '.join(there_are)}, or None for all"
        )


def select_masks(masks: PredictedMasks, selection: RankedSelection) -> PredictedMasks:
    """Keep one mask of each prompt: best (highest predicted IoU), whole, part or subpart.

    The last three are the largest, the middle and the smallest by area, since the masks of an ambiguous prompt are
    nested objects (arXiv:2304.02643, section 3) in no fixed order. Empty masks are chosen only where all are.
    """
    if selection == "best":
        return masks.at(np.zeros((len(masks), 1), dtype=np.int64))
    by_area = masks.area_px.argsort(axis=1, kind="stable")
    num_masks = by_area.shape[1]
    num_empty = np.minimum((masks.area_px == 0).sum(axis=1), num_masks - 1)  # they come first
    places = {
        "whole": np.full(len(masks), num_masks - 1),
        "part": num_empty + (num_masks - num_empty) // 2,
        "subpart": num_empty,
    }
    return masks.at(np.take_along_axis(by_area, places[selection][:, None], axis=1))


def _measure(logits: torch.Tensor, frame: Frame) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return masks (num, height, width), stability (num,) and area (num,) of logits (num, 4 h, 4 w)."""
    restored = restore_logits(logits[:, None], frame)[:, 0]
    masks = restored > 0
    return masks.cpu(), stability_score(restored), masks.sum((-2, -1))
