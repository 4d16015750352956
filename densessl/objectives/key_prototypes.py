"""What the rows of the contrastive loss are compared with in the key view: prototypes of masks, and of backgrounds."""

from typing import Literal

import torch
from torch.nn import functional as F

from densessl.objectives.loss_rows import enlarge
from densessl.objectives.mask_prototypes import mask_prototypes


def key_prototypes(
    embedding: torch.Tensor,
    masks: torch.Tensor,
    image: torch.Tensor,
    resolution: Literal["grid", "full"],
    confidence: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prototypes of the masks of a view, on the feature grid or of embeddings enlarged to the masks' size.

    Args:
        embedding: (batch, dim, h, w), not normalised.
        masks: int64 (batch, height, width), mask numbers over the batch, -1 background (see `index_masks`).
        image: int64 (num_masks,), the image of each mask, ascending.
        resolution: grid or full.
        confidence: (batch, height, width), in [0, 1], the weight of each pixel; all weigh 1 without it.

    Returns:
        prototypes (num_masks, dim), unit vectors, and bool (num_masks,), which of the masks the view shows.
    """
    if resolution == "grid":
        return mask_prototypes(F.normalize(embedding.float(), dim=1), masks, image, confidence)
    found = []
    for number in range(len(masks)):
        numbers = (image == number).nonzero().squeeze(1)
        first = numbers[:1].sum()  # 0 where the image has no mask
        own = torch.where(masks[number] >= 0, masks[number] - first, -1)
        keys = F.normalize(enlarge(embedding[number : number + 1], masks.shape[-2:]), dim=1)
        weights = None if confidence is None else confidence[number : number + 1]
        found.append(mask_prototypes(keys, own.unsqueeze(0), torch.zeros_like(numbers), weights))
    prototypes, is_present = (torch.cat(values) for values in zip(*found, strict=True))
    return prototypes, is_present


def background_prototypes(
    embedding: torch.Tensor,
    masks: torch.Tensor,
    resolution: Literal["grid", "full"],
    confidence: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the prototype of each image's background: the normalised sum of its pixels' unit embeddings.

    Args:
        embedding, resolution, confidence: as for `key_prototypes`.
        masks: int64 (batch, height, width), instance maps, 0 for background.

    Returns:
        (num, dim), unit vectors, of the images that have any background, in order.
    """
    image = torch.arange(len(masks), device=masks.device)
    numbered = torch.where(masks == 0, image.view(-1, 1, 1), -1)
    prototypes, is_present = key_prototypes(embedding, numbered, image, resolution, confidence)
    return prototypes[is_present]
