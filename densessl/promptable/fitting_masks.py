"""The mask that a prompt fits: a click lies in the middle of what it means, a box is drawn close around it.

Users who mean an object click near its middle, and so does the simulated user of interactive segmentation papers
(Sofiiuk et al., arXiv:2102.06583, section 4), so a mask whose middle is elsewhere is probably another object's. That is
worth more the less the predicted IoU can be trusted: a model taught by proposals thinks as well of masks that hold
two objects. Among the candidates are the masks at other thresholds too, since one that is too large often has a core.
"""

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from densessl.promptable.framing import Frame
from densessl.promptable.predicted_masks import PredictedMasks, measure_masks
from densessl.promptable.prompts import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, TOP_LEFT
from densessl.structures import MaskArray

THRESHOLDS = (0.0, -1.5, 1.5, -3.0, 3.0)
"""Logits above which a pixel belongs to a candidate, the usual one first: probabilities from 0.05 to 0.95."""
_SHARPNESS = 2
"""Power of how well a mask fits, beside its predicted IoU; 1 to 3 differ little (docs/decisions.md)."""


def fitting_masks(
    logits: torch.Tensor,
    predicted_iou: torch.Tensor,
    outputs: range,
    frame: Frame,
    points: torch.Tensor,
    kinds: torch.Tensor,
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
    """
    chosen, thresholds = [], []
    for prompt, masks in enumerate(logits.float()):
        ranked = predicted_iou[prompt].float().argsort(descending=True, stable=True)
        in_frame = _in_frame(masks[ranked], frame)
        given = points[prompt].float().cpu().numpy(), kinds[prompt].cpu().numpy()
        scores = np.array([_scores(values, *given) for values in in_frame])  # (num_masks, thresholds)
        scores *= predicted_iou[prompt, ranked].float().cpu().numpy().clip(min=0)[:, None]
        rank, threshold = np.unravel_index(int(scores.argmax()), scores.shape)
        chosen.append(int(ranked[int(rank)]))
        thresholds.append(THRESHOLDS[int(threshold)])
    rows, columns = torch.arange(len(logits)), torch.tensor(chosen)
    shift = torch.tensor(thresholds, device=logits.device)[:, None, None]
    kept = logits.float()[rows, columns] - shift
    found = measure_masks(kept[:, None], predicted_iou[rows, columns][:, None], range(1), frame, 1)
    return replace(found, output=columns.numpy()[:, None] + outputs.start)


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
    if (is_hit[kinds == BACKGROUND]).any() or not is_hit[kinds == FOREGROUND].all():
        return 0.0
    fit = 1.0
    if (kinds == FOREGROUND).any():
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        fit = float(depth[y, x][kinds == FOREGROUND].max() / depth.max())
    if (kinds == TOP_LEFT).any():
        fit *= _box_iou(mask, points[kinds == TOP_LEFT][0], points[kinds == BOTTOM_RIGHT][0])
    return fit


def _scores(values: NDArray[np.float32], points: NDArray[np.float32], kinds: NDArray[np.int64]) -> list[float]:
    """Return of logits (height, width) at each threshold (expected IoU x fit)^2."""
    probability = torch.from_numpy(values).sigmoid().numpy()
    masks = [values > threshold for threshold in THRESHOLDS]
    return [(expected_iou(probability, mask) * prompt_fit(mask, points, kinds)) ** _SHARPNESS for mask in masks]


def _in_frame(logits: torch.Tensor, frame: Frame) -> NDArray[np.float32]:
    """Bring logits (num_masks, 4 h, 4 w) to the pixels of the frame, without its padding."""
    height, width = frame.scaled_size
    restored = nn.functional.interpolate(logits[None], frame.padded_size, mode="bilinear")
    return restored[0, :, :height, :width].cpu().numpy()


def _box_iou(mask: MaskArray, top_left: NDArray[np.float32], bottom_right: NDArray[np.float32]) -> float:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    own = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]])
    given = np.array([top_left, bottom_right])
    shared = np.prod((np.minimum(own[1], given[1]) - np.maximum(own[0], given[0])).clip(0))
    return float(shared / max(1e-9, np.prod(own[1] - own[0]) + np.prod(given[1] - given[0]) - shared))
