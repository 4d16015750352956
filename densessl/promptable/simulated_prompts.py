"""Prompts as a user would give them, drawn from true masks (SAM, arXiv:2304.02643, appendix A, Training algorithm).

Masks lie on a grid of cells of `cell_px` pixels of the model's frame; points and boxes are in pixels of the frame.
Everything random comes from the generator, which is on the CPU, so that a step draws the same on any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

from densessl.promptable.prompts import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, TOP_LEFT


@dataclass(frozen=True)
class BoxNoise:
    """share: standard deviation of each coordinate, of the box's side along it. max_px: of the noise, either way."""

    share: float = 0.1
    max_px: float = 20.0


@dataclass(frozen=True)
class ClickPlaces:
    """cell_px: pixels of the frame in a cell of the masks. middle_share: probability that a click lies in the middle of
    what it is for, farthest from its edge, and not anywhere in it.
    """

    cell_px: int
    middle_share: float = 0.0


class SimulatedPrompts(NamedTuple):
    """points: float (num_prompts, n, 2), `(x, y)`. labels: int64 (num_prompts, n), as `PromptBatch` has them."""

    points: torch.Tensor
    labels: torch.Tensor

    @property
    def is_click(self) -> torch.Tensor:
        """bool (num_prompts,), whether the first prompt was a click and not a box."""
        return self.labels[:, 0] == FOREGROUND


def first_prompts(
    targets: torch.Tensor,
    boxes: torch.Tensor,
    extents: torch.Tensor,
    places: ClickPlaces,
    box_share: float,
    noise: BoxNoise,
    generator: torch.Generator,
) -> SimulatedPrompts:
    """Draw a click on each object or its noisy box.

    Both make two tokens: the click and a filling, or the corners, as a predictor gives them.

    Args:
        targets: bool (num_prompts, height, width), none of them empty.
        boxes: float (num_prompts, 4), `(x0, y0, x1, y1)`, of the objects.
        extents: float (num_prompts, 2), width and height of the image in the frame.
        places: where clicks lie.
        box_share: probability of a box.
        noise: of the boxes.
        generator: on the CPU.
    """
    device, num_prompts = targets.device, len(targets)
    clicks, _ = draw_clicks([targets], places, generator)
    noisy = noisy_boxes(boxes, extents, noise, generator)
    is_box = (torch.rand(num_prompts, generator=generator) < box_share).to(device)
    filled = torch.stack([clicks, torch.zeros_like(clicks)], dim=1)  # (num_prompts, 2, 2)
    points = torch.where(is_box[:, None, None], noisy.reshape(-1, 2, 2), filled)
    kinds = torch.tensor([[FOREGROUND, NOT_A_POINT], [TOP_LEFT, BOTTOM_RIGHT]], device=device)
    return SimulatedPrompts(points, kinds[is_box.long()])


def add_corrections(
    prompts: SimulatedPrompts,
    masks: torch.Tensor,
    targets: torch.Tensor,
    is_image: torch.Tensor,
    places: ClickPlaces,
    generator: torch.Generator,
) -> SimulatedPrompts:
    """Add to each prompt a click on where its mask is wrong: foreground where it misses, background where it has too
    much; a mask without error gets a filling.

    Args:
        prompts: so far.
        masks, targets: bool (num_prompts, height, width).
        is_image: alike, the cells within the image; the padding is nowhere a user could click.
        places, generator: as for `first_prompts`.
    """
    missed, surplus = targets & ~masks & is_image, masks & ~targets & is_image
    points, cells = draw_clicks([missed, surplus], places, generator)
    is_missed = targets.flatten(1).gather(1, cells.clamp_min(0)[:, None])[:, 0]
    labels = torch.where(is_missed, FOREGROUND, BACKGROUND)
    labels = torch.where(cells < 0, NOT_A_POINT, labels)
    return SimulatedPrompts(
        torch.cat([prompts.points, points[:, None]], dim=1), torch.cat([prompts.labels, labels[:, None]], dim=1)
    )


def draw_clicks(
    parts: Sequence[torch.Tensor], places: ClickPlaces, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a click on each region, in the middle of one of its parts or anywhere.

    Args:
        parts: bool (num, height, width) each, in cells; a region is what its parts have together.
        places, generator: as for `first_prompts`.

    Returns:
        points float (num, 2), `(x, y)`, 0 for an empty region, and the cells they lie in, int64 (num,), counted in
        reading order, -1 for an empty region.
    """
    regions = torch.stack(list(parts)).any(0)
    width, device, num = regions.shape[-1], regions.device, len(regions)
    drawn = torch.rand(num, 3, generator=generator).to(device)
    cells = _cell_anywhere(regions, drawn[:, 0])
    if places.middle_share:
        is_middle = (torch.rand(num, generator=generator) < places.middle_share).to(device)
        middles = _middle_cells([part[is_middle] for part in parts])
        cells = cells.masked_scatter(is_middle, middles)
    within = (drawn[:, 1:] * places.cell_px).long()  # pixel of the cell
    points = torch.stack([cells % width, cells // width], dim=1) * places.cell_px + within
    is_empty = cells < 0
    return torch.where(is_empty[:, None], 0, points).float(), cells


def _cell_anywhere(regions: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Return a cell of each region (num, height, width), each as likely where `drawn` (num,) is uniform in [0, 1)."""
    flat = regions.flatten(1)
    counts = flat.sum(1)
    place = torch.minimum((drawn * counts).long(), (counts - 1).clamp_min(0))
    cells = (flat.cumsum(1) <= place[:, None]).sum(1)
    return torch.where(counts == 0, -1, cells)


def _middle_cells(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the cell farthest from the edge of its part, the grid's edge included; of equals that of the first part.

    Distances are OpenCV's of a 5 x 5 mask, right to 2 % (Borgefors, 1986).
    """
    num, width = len(parts[0]), parts[0].shape[-1]
    cells, deepest = np.full(num, -1), np.zeros(num)
    for part in parts:
        for row, mask in enumerate(np.pad(part.cpu().numpy().astype(np.uint8), ((0, 0), (1, 1), (1, 1)))):
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            if depth[y, x] > deepest[row]:
                cells[row], deepest[row] = y * width + x, depth[y, x]
    return torch.from_numpy(cells).to(parts[0].device)


def noisy_boxes(
    boxes: torch.Tensor, extents: torch.Tensor, noise: BoxNoise, generator: torch.Generator
) -> torch.Tensor:
    """Move each coordinate of boxes (num, 4) by normal noise, within the image and at least a pixel wide and high."""
    corners = boxes.reshape(-1, 2, 2)  # (num, corners, (x, y))
    sides = corners[:, 1] - corners[:, 0]
    drawn = torch.randn(len(boxes), 2, 2, generator=generator).to(boxes)
    moved = corners + (drawn * noise.share * sides[:, None]).clamp(-noise.max_px, noise.max_px)
    low = torch.minimum(moved.amin(1).clamp_min(0), extents - 1)
    high = torch.maximum(torch.minimum(moved.amax(1), extents), low + 1)
    return torch.stack([low, high], dim=1).reshape(-1, 4)


def draw_rounds(num_points: int, num_refinements: int, generator: torch.Generator) -> tuple[bool, ...]:
    """Return whether each round after the first adds a point.

    As published for 8 and 2: one round without a new point comes at a random place among those with one, the other at
    the end; further ones come at random places too.
    """
    rounds = [True] * num_points
    for _ in range(num_refinements - 1):
        rounds.insert(int(torch.randint(len(rounds) + 1, (1,), generator=generator)), False)
    return (*rounds, *(False for _ in range(min(1, num_refinements))))
