"""GrabCut on the masks of a promptable model, which then follow colours and edges that a small decoder does not see."""

import math
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.promptable.framing import Frame, restore_logits
from densessl.promptable.predicted_masks import PredictedMasks
from densessl.promptable.prompts import FOREGROUND, NOT_A_POINT, Prompts
from densessl.structures import ImageArray, MaskArray

Refinement = Literal["none", "grabcut"]

CERTAIN = 0.9
"""Probability from which a pixel is certain foreground; below 1 minus it, certain background."""
_BOUND = math.log(CERTAIN / (1 - CERTAIN))
ITERATIONS = 2
"""Of fitting the colour models and cutting the graph."""
MARGIN = 0.3
"""Of what surrounds the pixels that are not certain background, as a share of their box: it teaches the background."""
MAX_SIDE_PX = 640
"""Long side that the graph is cut at; larger regions are reduced to it, and their masks enlarged."""
_CLICK_SHARE = 0.005
"""Radius of the disc around a click that is certain, of the image's long side."""
_BOX_SLACK = 0.01
"""Of a box's sides, by which an object may reach out of it."""


class Region(NamedTuple):
    """Part of an image: rows `top` to `bottom` and columns `left` to `right`, the last of each left out."""

    top: int
    bottom: int
    left: int
    right: int


def check_refinement(refinement: Refinement) -> None:
    """Raise `InputError` for a name that is no refinement."""
    if refinement not in get_args(Refinement):
        raise InputError(f"refine is {refinement!r}; it is one of {', '.join(get_args(Refinement))}")


def refine_masks(image: ImageArray, found: PredictedMasks, prompts: Prompts, frame: Frame) -> PredictedMasks:
    """Cut every mask anew by GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004), begun with what the model thinks.

    Pixels that the model is sure of keep their side, clicks have that of their label, and outside a box is background;
    of all others GrabCut decides by colour and neighbours. Predicted IoU, stability and `low_resolution` stay those of
    the model's own masks.

    Args:
        image: uint8 RGB (height, width, 3).
        found: of that image.
        prompts: for which they were found.
        frame: of the image.

    Returns:
        The same with other masks and areas.
    """
    masks = found.masks.copy()
    for prompt in range(len(found)):
        clicks = None
        if prompts.points is not None and prompts.labels is not None:
            clicks = _clicks(prompts.points[prompt], prompts.labels[prompt])
        box = None if prompts.boxes is None else prompts.boxes[prompt]
        for rank in range(masks.shape[1]):
            logits = torch.from_numpy(found.low_resolution[prompt, rank])[None, None]
            restored = restore_logits(logits, frame)[0, 0].numpy()
            masks[prompt, rank] = cut_mask(image, restored, clicks, box)
    return replace(found, masks=masks, area_px=masks.sum((-2, -1), dtype=np.int64))


def cut_mask(
    image: ImageArray,
    logits: NDArray[np.float32],
    clicks: NDArray[np.float64] | None = None,
    box: NDArray[np.float64] | None = None,
) -> MaskArray:
    """Return the mask (height, width) that GrabCut finds, begun with logits (height, width) of the image's size.

    clicks: (num, 3), `(x, y, 1 on the object or 0)` in pixels. box: (4,), `(x0, y0, x1, y1)`. Where nothing, or
    everything, is foreground GrabCut cannot begin, and the mask is that of the logits.
    """
    logits = logits if box is None else _within(box, logits)
    clicks = np.zeros((0, 3)) if clicks is None else clicks
    mask, region = logits > 0, _region(logits > -_BOUND, clicks)
    if region is None:
        return mask
    rows, columns = slice(region.top, region.bottom), slice(region.left, region.right)
    part, values = image[rows, columns], logits[rows, columns]
    scale = min(1.0, MAX_SIDE_PX / max(values.shape))
    width, height = (max(1, round(side * scale)) for side in values.shape[::-1])
    placed = (clicks - (region.left, region.top, 0)) * (scale, scale, 1)
    seeds = _seeds(cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST))
    for x, y, is_foreground in placed:
        radius = max(1, round(_CLICK_SHARE * scale * max(mask.shape)))
        cv2.circle(seeds, (int(x), int(y)), radius, int(cv2.GC_FGD if is_foreground else cv2.GC_BGD), thickness=-1)
    cut = cut_graph(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), seeds, ITERATIONS)
    if cut is not None:
        enlarged = cv2.resize(cut.astype(np.float32), values.shape[::-1], interpolation=cv2.INTER_LINEAR)
        mask[rows, columns] = enlarged > 0.5
    return mask


def _clicks(points: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the clicks among points (n, 2) with labels (n,), as `cut_mask` takes them; fillings are left out."""
    is_click = labels != NOT_A_POINT
    return np.column_stack([points[is_click], labels[is_click] == FOREGROUND])


def _within(box: NDArray[np.float64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits that are certain background outside a box."""
    (x0, y0, x1, y1), (height, width) = box, logits.shape
    x_slack, y_slack = 1 + _BOX_SLACK * (x1 - x0), 1 + _BOX_SLACK * (y1 - y0)
    top, bottom = int(max(0, y0 - y_slack)), int(min(height, np.ceil(y1 + y_slack)))
    left, right = int(max(0, x0 - x_slack)), int(min(width, np.ceil(x1 + x_slack)))
    inside = np.full_like(logits, -np.inf)
    inside[top:bottom, left:right] = logits[top:bottom, left:right]
    return inside


def _region(is_open: MaskArray, clicks: NDArray[np.float64]) -> Region | None:
    """Return the box around open pixels and clicks with its margin; None where no pixel is open."""
    rows, columns = np.flatnonzero(is_open.any(1)), np.flatnonzero(is_open.any(0))
    if not len(rows):
        return None
    height, width = is_open.shape
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if len(clicks):
        x, y = clicks[:, 0], clicks[:, 1]
        left, right = min(left, int(x.min())), max(right, int(x.max()) + 1)
        top, bottom = min(top, int(y.min())), max(bottom, int(y.max()) + 1)
    more_rows, more_columns = (int(np.ceil(MARGIN * side)) for side in (bottom - top, right - left))
    return Region(
        int(max(0, top - more_rows)),
        int(min(height, bottom + more_rows)),
        int(max(0, left - more_columns)),
        int(min(width, right + more_columns)),
    )


def _seeds(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return what GrabCut begins with, states (height, width) in OpenCV's numbers."""
    seeds = np.where(logits > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    seeds[logits > _BOUND] = cv2.GC_FGD
    seeds[logits < -_BOUND] = cv2.GC_BGD
    return seeds


def cut_graph(image: ImageArray, seeds: NDArray[np.uint8], iterations: int) -> MaskArray | None:
    """Run GrabCut on an image, uint8 RGB (height, width, 3), from seeds (height, width), states in OpenCV's numbers.

    Returns:
        The mask (height, width), or None where it cannot begin, because nothing or everything is foreground. Equal
        inputs give equal masks; OpenCV's random seed is set. The seeds are written over.
    """
    is_foreground = _foreground(seeds)
    if is_foreground.all() or not is_foreground.any():
        return None
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # of the first mixtures
    blue_first = np.ascontiguousarray(image[..., ::-1])
    cut, _, _ = cv2.grabCut(blue_first, seeds, None, *models, iterations, cv2.GC_INIT_WITH_MASK)
    return _foreground(cut)


def _foreground(states: NDArray[np.uint8]) -> MaskArray:
    return (states == cv2.GC_FGD) | (states == cv2.GC_PR_FGD)
