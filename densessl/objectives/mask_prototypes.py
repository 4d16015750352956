"""Numbering the masks of a batch, and their prototypes: the mean embedding of each mask."""

from typing import NamedTuple

import torch
from torch.nn import functional as F


class MaskIndex(NamedTuple):
    """The masks of a batch, numbered 0 .. num_masks - 1 through all images.

    query, key: int64 (batch, height, width), the mask of each pixel in either view, -1 for background.
    image: int64 (num_masks,), the image that each mask lies in.
    """

    query: torch.Tensor
    key: torch.Tensor
    image: torch.Tensor


def index_masks(query_masks: torch.Tensor, key_masks: torch.Tensor) -> MaskIndex:
    """Number the masks of two views of a batch.

    Args:
        query_masks, key_masks: int64 (batch, height, width); 0 background, 1, 2, ... the masks of that image with the
            same number in both views. The two views may differ in size.
    """
    per_image = torch.maximum(query_masks.flatten(1).amax(1), key_masks.flatten(1).amax(1))  # (batch,)
    offsets = per_image.cumsum(0) - per_image
    shift = (offsets - 1).view(-1, 1, 1)
    image = torch.repeat_interleave(torch.arange(len(per_image), device=per_image.device), per_image)
    query = torch.where(query_masks > 0, query_masks + shift, -1)
    key = torch.where(key_masks > 0, key_masks + shift, -1)
    return MaskIndex(query, key, image)


def number_masks(masks: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Number the masks of a further view of a batch as `index_masks` did those of two.

    Args:
        masks: int64 (batch, height, width), instance map; 0 background.
        image: int64 (num_masks,), the image of each mask, from `index_masks`.

    Returns:
        int64 (batch, height, width), the mask of each pixel, -1 for background and for masks that neither of the two
        views shows.
    """
    per_image = torch.bincount(image, minlength=len(masks)).view(-1, 1, 1)
    offsets = per_image.cumsum(0) - per_image
    return torch.where((masks > 0) & (masks <= per_image), masks - 1 + offsets, -1)


def mask_membership(masks: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Split numbered masks of a batch into single ones.

    Args:
        masks: int64 (batch, height, width), mask numbers over the batch, -1 background (see `index_masks`).
        image: int64 (num_masks,), the image of each mask.

    Returns:
        bool (num_masks, height, width).
    """
    numbers = torch.arange(len(image), device=image.device).view(-1, 1, 1)
    return masks[image] == numbers


def mask_prototypes(
    embeddings: torch.Tensor, masks: torch.Tensor, image: torch.Tensor, confidence: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prototype of each mask: the normalised sum of its pixels' unit embeddings.

    z_M = sum_{i in M} z_i / |sum_{i in M} z_i| (arXiv:2102.06191, section 3.3; the published code normalises the
    mean). Masks larger than the feature grid are brought to it by area averaging, so that a cell counts by the share
    of it that the mask covers and a small mask does not vanish; at equal size this is the plain sum.

    Args:
        embeddings: (batch, dim, h, w), unit vectors over dim.
        masks: int64 (batch, height, width), mask numbers over the batch, -1 background (see `index_masks`).
        image: int64 (num_masks,), the image of each mask.
        confidence: (batch, height, width), in [0, 1]: a pixel counts so much; without it each counts 1. A mask all of
            whose pixels count 0 is absent.

    Returns:
        prototypes (num_masks, dim), unit vectors (zeros where a mask is absent), and is_present (num_masks,), bool.
    """
    membership = mask_membership(masks, image).to(embeddings.dtype)  # (num_masks, height, width)
    if confidence is not None:
        membership = membership * confidence[image].to(membership.dtype)
    grid = (embeddings.shape[-2], embeddings.shape[-1])
    if tuple(membership.shape[-2:]) != grid:
        membership = F.adaptive_avg_pool2d(membership.unsqueeze(1), grid).squeeze(1)
    sums = torch.einsum("mhw,mdhw->md", membership, embeddings[image])
    is_present = membership.flatten(1).sum(1) > 0
    return F.normalize(sums, dim=1), is_present
