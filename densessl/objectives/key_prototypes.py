"""What the rows of the contrastive loss are pulled to: the prototypes of the key view."""

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
