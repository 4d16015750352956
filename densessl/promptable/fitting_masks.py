"""The mask that a prompt fits: a click lies in the middle of what it means, a box is drawn close around it.

Users who mean an object click near its middle, and so does the simulated user of interactive segmentation papers
(Sofiiuk et al., arXiv:2102.06583, section 4), so a mask whose middle is elsewhere is probably another object's. That is
worth more the less the predicted IoU can be trusted: a model taught by proposals thinks as well of masks that hold
two objects. Among the candidates are the masks at other thresholds too, since one that is too large often has a core.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from densessl.mask_geometry import depth, object_box
from densessl.promptable.framing import Frame
from densessl.promptable.predicted_masks import PredictedMasks, measure_masks
from densessl.promptable.prompts import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, TOP_LEFT, Prompts
from densessl.structures import MaskArray

THRESHOLDS = (0.0, -1.5, 1.5, -3.0, 3.0)
"""Logits above which a pixel belongs to a candidate, the usual one first: probabilities from 0.05 to 0.95."""
_SHARPNESS = 2
"""Power of how well a mask fits, beside its predicted IoU; 1 to 3 differ little (docs/decisions.md)."""

_LEAST_IOU = 1e-6
"""Predicted IoU is not bounded; a mask of less counts as one of this."""


def fitting_masks(
    logits: torch.Tensor,
    predicted_iou: torch.Tensor,
    outputs: range,
    frame: Frame,
    points: torch.Tensor,
    kinds: torch.Tensor,
    num_kept: int = 1,
) -> PredictedMasks:
    """Return of each prompt's masks at all thresholds the one of the highest predicted IoU x (expected IoU x fit)^2.

    The expected IoU is what the mask's own logits say of it (`expected_iou`), the fit what the prompt says
    (`prompt_fit`), both in the model's frame. Where no candidate fits it is the mask of the highest predicted IoU.
    `low_resolution` of the result is shifted by the threshold, so that the mask is where it is positive.

    Args:
        logits: (num_prompts, num_masks, 4 h, 4 w), of the decoder.
        predicted_iou: (num_prompts, num_masks).
        outputs: of the decoder, which they are.
        frame: of the image.
        points: (num_prompts, n, 2), `(x, y)` in the frame, and kinds (num_prompts, n), as `PromptBatch` has them.
        num_kept: masks of each prompt, each at its best threshold, the best first, whatever their predicted IoU.
    """
    ranked = predicted_iou.float().argsort(dim=1, descending=True, stable=True)
    logits, predicted_iou = (
        logits.float().take_along_dim(ranked[..., None, None], dim=1),
        predicted_iou.float().take_along_dim(ranked, dim=1),
    )
    scores = np.array(
        [
            [_scores(values, points_of, kinds_of) for values in _in_frame(masks, frame)]
            for masks, points_of, kinds_of in zip(logits, *_placed(points, kinds, frame), strict=True)
        ]
    )  # (num_prompts, num_masks, thresholds)
    scores *= predicted_iou.cpu().numpy().clip(min=_LEAST_IOU)[..., None]
    best = np.argsort(-scores.max(2), axis=1, kind="stable")[:, :num_kept]
    at = np.take_along_axis(scores.argmax(2), best, axis=1)
    kept = torch.from_numpy(best).to(logits.device)
    shift = torch.tensor(THRESHOLDS, device=logits.device)[torch.from_numpy(at).to(logits.device)]
    shifted = logits.take_along_dim(kept[..., None, None], dim=1) - shift[..., None, None]
    found = measure_masks(shifted, predicted_iou.take_along_dim(kept, dim=1), range(num_kept), frame, num_kept)
    in_order = found.at(found.output.argsort(axis=1))
    output = ranked.take_along_dim(kept, dim=1).cpu().numpy() + outputs.start
    return replace(in_order, output=output)


def keep_fitting(found: PredictedMasks, prompts: Prompts) -> PredictedMasks:
    """Keep of each prompt's masks, of the image's size, the one of the highest predicted IoU x fit^2.

    For masks that something else than the model had the last word on, so that its logits say nothing of them. Where
    none fits it is the first.
    """
    chosen = []
    for prompt in range(len(found)):
        points, kinds = _labelled(prompts, prompt)
        fit = np.array([prompt_fit(mask, points, kinds) for mask in found.masks[prompt]])
        chosen.append(int(np.argmax(found.predicted_iou[prompt].clip(min=_LEAST_IOU) * fit**_SHARPNESS)))
    return found.at(np.array(chosen)[:, None])


def expected_iou(probability: NDArray[np.float32], mask: MaskArray) -> float:
    """Return the IoU of a mask with an object whose pixels are drawn with these probabilities, sums in place of their
    ratio's mean; 0 for an empty mask.
    """
    inside = float(probability[mask].sum())
    return inside / (np.count_nonzero(mask) + float(probability.sum()) - inside) if mask.any() else 0.0


def prompt_fit(mask: MaskArray, points: NDArray[np.float32], kinds: NDArray[np.int64]) -> float:
    """Return how well a mask (height, width) fits a prompt, in [0, 1].

    Of clicks: 0 unless the mask has all on the object and none of the others; else the distance to the mask's edge of
    the click that is farthest from it, as a share of that of the mask's deepest pixel. Of a box: IoU with the box
    around the mask. Of both: the product. The image's edge is an edge too.

    points: (n, 2), `(x, y)` pixels, with kinds (n,) as `PromptBatch` has them.
    """
    if not mask.any():
        return 0.0
    x, y = (points[:, axis].astype(np.int64).clip(0, mask.shape[1 - axis] - 1) for axis in (0, 1))
    is_hit = mask[y, x]
    if is_hit[kinds == BACKGROUND].any() or not is_hit[kinds == FOREGROUND].all():
        return 0.0
    fit = 1.0
    if (kinds == FOREGROUND).any():
        depths = depth(mask)
        fit = float(depths[y, x][kinds == FOREGROUND].max() / depths.max())
    if (kinds == TOP_LEFT).any():
        fit *= _box_iou(mask, points[kinds == TOP_LEFT][0], points[kinds == BOTTOM_RIGHT][0])
    return fit


def _scores(values: NDArray[np.float32], points: NDArray[np.float32], kinds: NDArray[np.int64]) -> list[float]:
    """Return of logits (height, width) at each threshold (expected IoU x fit)^2."""
    probability = torch.from_numpy(values).sigmoid().numpy()
    masks = [values > threshold for threshold in THRESHOLDS]
    return [(expected_iou(probability, mask) * prompt_fit(mask, points, kinds)) ** _SHARPNESS for mask in masks]


def _placed(points: torch.Tensor, kinds: torch.Tensor, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return points, clicks in the middle of what their pixel became in the frame, and kinds, both on the CPU."""
    placed, kinds_of = points.float().cpu().numpy().copy(), kinds.cpu().numpy()
    is_click = (kinds_of == FOREGROUND) | (kinds_of == BACKGROUND)
    placed[is_click] += frame.to_frame(np.full(2, 0.5)).astype(np.float32)
    return placed, kinds_of


def _labelled(prompts: Prompts, prompt: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return clicks and corners of a prompt's box, (n, 2) in pixels of the image, and what they are (n,)."""
    points, kinds = [np.zeros((0, 2))], [np.zeros(0, dtype=np.int64)]
    if prompts.points is not None and prompts.labels is not None:
        points.append(prompts.points[prompt])
        kinds.append(prompts.labels[prompt])
    if prompts.boxes is not None:
        points.append(prompts.boxes[prompt].reshape(2, 2))
        kinds.append(np.array([TOP_LEFT, BOTTOM_RIGHT]))
    return np.concatenate(points).astype(np.float32), np.concatenate(kinds)


def _in_frame(logits: torch.Tensor, frame: Frame) -> NDArray[np.float32]:
    """Bring logits (num_masks, 4 h, 4 w) to the pixels of the frame, without its padding."""
    height, width = frame.scaled_size
    restored = nn.functional.interpolate(logits[None], frame.padded_size, mode="bilinear")
    return restored[0, :, :height, :width].cpu().numpy()


def _box_iou(mask: MaskArray, top_left: NDArray[np.float32], bottom_right: NDArray[np.float32]) -> float:
    own = np.array(object_box(mask)).reshape(2, 2)
    given = np.array([top_left, bottom_right])
    shared = np.prod((np.minimum(own[1], given[1]) - np.maximum(own[0], given[0])).clip(0))
    return float(shared / max(1e-9, np.prod(own[1] - own[0]) + np.prod(given[1] - given[0]) - shared))
