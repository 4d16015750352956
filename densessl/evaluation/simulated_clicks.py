"""Interactive segmentation with a simulated, deterministic user: each click goes to the middle of the largest error.

The protocol of interactive segmentation papers (Sofiiuk et al., arXiv:2102.06583, section 4; SAM's figure 9): the first
click lies in the object, farthest from its edge; each further one in the larger of the two error regions, what is
missing (a foreground click) and what is too much (a background click), farthest from that region's edge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.nested_masks import pair_iou
from densessl.mask_geometry import depth
from densessl.structures import MaskArray


@dataclass(frozen=True)
class Click:
    """A pixel of the image and whether it is on the object."""

    x: int
    y: int
    is_foreground: bool


SegmentClicks = Callable[[Sequence[Click]], MaskArray]
"""Returns the mask (height, width) after these clicks; it is called with one click more each time."""


def click_scores(
    segment: SegmentClicks,
    target: MaskArray,
    num_clicks: int,
    ignored: MaskArray | None = None,
    first: Click | None = None,
) -> NDArray[np.float64]:
    """Return the IoU with an object (height, width) after 1, 2, ... clicks, (num_clicks,).

    Once a mask has no error the user stops, and the IoU stays 1. Pixels that are `ignored` (void) count for neither and
    are not clicked. first: in place of the protocol's first click.

    Raises:
        InputError: an empty object.
    """
    scores = np.ones(num_clicks)
    mask = np.zeros(target.shape, dtype=np.bool_)
    clicks: list[Click] = []
    for number in range(num_clicks):
        click = first if first and not clicks else next_click(mask, target, ignored)
        if click is None:
            break
        clicks.append(click)
        mask = segment(tuple(clicks))
        scores[number] = counted_iou(mask, target, ignored)
    return scores


def counted_iou(mask: MaskArray, target: MaskArray, ignored: MaskArray | None) -> float:
    """Return the IoU of a mask and an object over the pixels that are not ignored."""
    return pair_iou(mask, target) if ignored is None else pair_iou(mask & ~ignored, target & ~ignored)


def next_click(mask: MaskArray, target: MaskArray, ignored: MaskArray | None = None) -> Click | None:
    """Return the click that corrects a mask, both (height, width); `None` where it has no error.

    With an empty mask that is the first click. Of errors that are as deep, a missing one comes first.

    Raises:
        InputError: an empty object.
    """
    if not target.any():
        raise InputError("the object to click on is empty; leave it out")
    missed, surplus = target & ~mask, mask & ~target
    if ignored is not None:
        missed, surplus = missed & ~ignored, surplus & ~ignored
    if not (missed.any() or surplus.any()):
        return None
    in_missed, in_surplus = depth(missed), depth(surplus)
    is_foreground = in_missed.max() >= in_surplus.max()
    y, x = np.unravel_index(int(np.argmax(in_missed if is_foreground else in_surplus)), target.shape)
    return Click(int(x), int(y), bool(is_foreground))
