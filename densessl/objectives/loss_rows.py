"""The rows of the contrastive loss: the pixels or whole masks of one view, embedded when they are needed."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F


class Rows(NamedTuple):
    """Rows of the contrastive loss, pixels or whole masks, that are computed when they are needed.

    given: what they are computed from; gradient flows into it. masks: int64 (num,), the prototype of each.
    embed: turns `given` into unit vectors (num, dim). weights: (num,), positive, how much each counts; all count 1
    without them.
    """

    given: torch.Tensor
    masks: torch.Tensor
    embed: Callable[[torch.Tensor], torch.Tensor]
    weights: torch.Tensor | None = None


def pixel_rows(
    embedding: torch.Tensor,
    masks: torch.Tensor,
    column: torch.Tensor,
    resolution: Literal["grid", "full"],
    pixels_per_mask: int,
    confidence: torch.Tensor | None = None,
) -> list[Rows]:
    """Return the foreground pixels of a view that have a positive, in one part or, at full resolution, image by image.

    Args:
        embedding: (batch, dim, h, w), not normalised.
        masks: int64 (batch, height, width), mask numbers over the batch, -1 background (see `index_masks`).
        column: int64 (num_masks,), the prototype of each mask, -1 where it has none.
        resolution: grid takes the cells of the embedding, full the pixels of the masks.
        pixels_per_mask: at most so many pixels of each mask, drawn at random; 0 takes all.
        confidence: (batch, height, width), in [0, 1]: the weight of each pixel as a row; those of weight 0 are no rows.
    """
    size = masks.shape[-2:] if resolution == "full" else embedding.shape[-2:]
    weights = None
    with torch.no_grad():
        if confidence is not None:
            masks = torch.where(confidence > 0, masks, -1)
        cells, chosen_masks = select_cells(masks, column, size, pixels_per_mask)
        if confidence is not None:
            weights = _nearest(confidence, size).flatten()[cells]
    if resolution == "grid":
        return [Rows(embedding, chosen_masks, partial(_embed_cells, cells=cells, size=size), weights)]
    # image by image: all pixels of all images at once are many times the network's features
    ends = torch.searchsorted(cells, torch.arange(1, len(masks) + 1, device=cells.device) * size.numel())
    of_image = torch.tensor_split(torch.arange(len(cells), device=cells.device), ends[:-1].cpu())
    return [
        Rows(
            embedding[image : image + 1],
            chosen_masks[chosen],
            partial(_embed_cells, cells=cells[chosen] - image * size.numel(), size=size),
            None if weights is None else weights[chosen],
        )
        for image, chosen in enumerate(of_image)
    ]


def whole_rows(embedding: torch.Tensor, masks: torch.Tensor) -> Rows:
    """Return whole masks as rows: embeddings (num, dim), not normalised, and the prototype of each, int64 (num,)."""
    return Rows(embedding, masks, _unit_vectors)


def select_cells(
    masks: torch.Tensor, column: torch.Tensor, size: torch.Size, pixels_per_mask: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick the foreground cells of a view that have a positive.

    Args:
        masks: int64 (batch, height, width), mask number over the batch or -1; brought to `size` by nearest sampling.
        column: int64 (num_masks,), the prototype of each mask, -1 where it has none.
        size: (h, w) of the maps whose cells are picked.
        pixels_per_mask: at most so many pixels of each mask, drawn at random; 0 takes all.

    Returns:
        cells, int64 (num,), ascending numbers into (batch, h, w) flattened, and int64 (num,), the prototype of each.
    """
    masks = _nearest(masks, size).long()
    target = torch.full_like(masks, -1)
    is_foreground = masks >= 0
    target[is_foreground] = column[masks[is_foreground]]
    target = target.flatten()
    chosen = (target >= 0).nonzero().squeeze(1)
    if pixels_per_mask > 0:
        chosen = _sample_per_mask(chosen, target[chosen], pixels_per_mask)
    return chosen, target[chosen]


def enlarge(embedding: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Bring maps (batch, dim, h, w) to a size, bilinear."""
    if embedding.shape[-2:] == size:
        return embedding
    return F.interpolate(embedding.float(), size=size, mode="bilinear", align_corners=False)


def _embed_cells(embedding: torch.Tensor, cells: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Return the unit vectors (num, dim) of chosen cells of maps (batch, dim, h, w), enlarged to `size` first."""
    flat = enlarge(embedding, size).permute(0, 2, 3, 1).flatten(0, 2)  # (batch * height * width, dim)
    return _unit_vectors(flat[cells])


def _unit_vectors(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors.float(), dim=1)


def _sample_per_mask(chosen: torch.Tensor, masks: torch.Tensor, pixels_per_mask: int) -> torch.Tensor:
    """Keep at most `pixels_per_mask` of the chosen rows of each mask, drawn uniformly, in their order."""
    shuffled = torch.randperm(len(chosen), device=chosen.device)
    order = shuffled[torch.argsort(masks[shuffled], stable=True)]
    counts = torch.bincount(masks)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - starts[masks[order]]
    return chosen[order[rank < pixels_per_mask].sort().values]


def _nearest(values: torch.Tensor, size: torch.Size) -> torch.Tensor:
    if values.shape[-2:] == size:
        return values
    return F.interpolate(values.unsqueeze(1).float(), size=size, mode="nearest-exact").squeeze(1)
