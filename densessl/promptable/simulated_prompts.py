"""Prompts as a user would give them, drawn from true masks (SAM, arXiv:2304.02643, appendix A, Training algorithm).

Masks lie on a grid of cells of `cell_px` pixels of the model's frame; points and boxes are in pixels of the frame.
Everything random comes from the generator, which is on the CPU, so that a step draws the same on any device.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from densessl.promptable.prompts import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, TOP_LEFT


@dataclass(frozen=True)
class BoxNoise:
    """share: standard deviation of each coordinate, of the box's side along it. max_px: of the noise, either way."""

    share: float = 0.1
    max_px: float = 20.0


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
    cell_px: int,
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
        cell_px: pixels per cell of the targets.
        box_share: probability of a box.
        noise: of the boxes.
        generator: on the CPU.
    """
    device, num_prompts = targets.device, len(targets)
    clicks, _ = draw_points(targets, cell_px, generator)
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
    cell_px: int,
    generator: torch.Generator,
) -> SimulatedPrompts:
    """Add to each prompt a point drawn from where its mask is wrong: foreground where it misses, background where it
    has too much; a mask without error gets a filling.

    Args:
        prompts: so far.
        masks, targets: bool (num_prompts, height, width).
        is_image: alike, the cells within the image; the padding is nowhere a user could click.
        cell_px, generator: as for `first_prompts`.
    """
    points, cells = draw_points((masks != targets) & is_image, cell_px, generator)
    is_missed = targets.flatten(1).gather(1, cells.clamp_min(0)[:, None])[:, 0]
    labels = torch.where(is_missed, FOREGROUND, BACKGROUND)
    labels = torch.where(cells < 0, NOT_A_POINT, labels)
    return SimulatedPrompts(
        torch.cat([prompts.points, points[:, None]], dim=1), torch.cat([prompts.labels, labels[:, None]], dim=1)
    )


def draw_points(regions: torch.Tensor, cell_px: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a pixel of each region with equal probability.

    Args:
        regions: bool (num, height, width), in cells.
        cell_px, generator: as for `first_prompts`.

    Returns:
        points float (num, 2), `(x, y)`, 0 for an empty region, and the cells they lie in, int64 (num,), counted in
        reading order, -1 for an empty region.
    """
    width, device = regions.shape[-1], regions.device
    drawn = torch.rand(len(regions), 3, generator=generator).to(device)
    flat = regions.flatten(1)
    counts = flat.sum(1)
    place = torch.minimum((drawn[:, 0] * counts).long(), (counts - 1).clamp_min(0))
    cells = (flat.cumsum(1) <= place[:, None]).sum(1)
    within = (drawn[:, 1:] * cell_px).long()  # pixel of the cell
    points = torch.stack([cells % width, cells // width], dim=1) * cell_px + within
    is_empty = counts == 0
    return torch.where(is_empty[:, None], 0, points).float(), torch.where(is_empty, -1, cells)


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
