"""Views on their way: pairs become batches of bytes, which travel between processes and unfold on the device."""

from typing import NamedTuple

import torch

from densessl.data.normalisation import normalise_bytes
from densessl.structures import LocalViews, ViewBatch


class ViewPair(NamedTuple):
    """Two views of one image, or of an image and one of its neighbours; all tensors are uint8.

    query_image, key_image: (3, size, size), RGB, not normalised yet. query_mask, key_mask: (size, size), instance
    maps. stem: the image of the query view. num_replaced: how many images were passed over because no pair of their
    views held enough foreground. local_images, local_masks: (num_local, 3, local size, local size) and (num_local,
    local size, local size), crops of the image of the query view, where there are any. query_confidence,
    key_confidence, local_confidence: shaped as the masks, how sure these are, where that is wanted.
    """

    query_image: torch.Tensor
    query_mask: torch.Tensor
    key_image: torch.Tensor
    key_mask: torch.Tensor
    stem: str
    num_replaced: int
    local_images: torch.Tensor | None = None
    local_masks: torch.Tensor | None = None
    query_confidence: torch.Tensor | None = None
    key_confidence: torch.Tensor | None = None
    local_confidence: torch.Tensor | None = None


class PackedViews(NamedTuple):
    """A batch of view pairs as it travels between processes: a quarter and an eighth of the bytes of a `ViewBatch`.

    query_images, key_images: uint8 (batch, 3, size, size), RGB. query_masks, key_masks: uint8 (batch, size, size).
    num_replaced: how many images were passed over for it. local_images, local_masks: uint8 (num_local, batch, 3, local
    size, local size) and (num_local, batch, local size, local size), where there are any. query_confidence,
    key_confidence, local_confidence: uint8, shaped as the masks, where they are wanted.
    """

    query_images: torch.Tensor
    query_masks: torch.Tensor
    key_images: torch.Tensor
    key_masks: torch.Tensor
    stems: tuple[str, ...]
    num_replaced: int
    local_images: torch.Tensor | None = None
    local_masks: torch.Tensor | None = None
    query_confidence: torch.Tensor | None = None
    key_confidence: torch.Tensor | None = None
    local_confidence: torch.Tensor | None = None


def collate_views(pairs: list[ViewPair]) -> PackedViews:
    """Stack pairs into a batch."""
    return PackedViews(
        query_images=torch.stack([pair.query_image for pair in pairs]),
        query_masks=torch.stack([pair.query_mask for pair in pairs]),
        key_images=torch.stack([pair.key_image for pair in pairs]),
        key_masks=torch.stack([pair.key_mask for pair in pairs]),
        stems=tuple(pair.stem for pair in pairs),
        num_replaced=sum(pair.num_replaced for pair in pairs),
        local_images=_stacked([pair.local_images for pair in pairs], dim=1),
        local_masks=_stacked([pair.local_masks for pair in pairs], dim=1),
        query_confidence=_stacked([pair.query_confidence for pair in pairs]),
        key_confidence=_stacked([pair.key_confidence for pair in pairs]),
        local_confidence=_stacked([pair.local_confidence for pair in pairs], dim=1),
    )


def _stacked(tensors: list[torch.Tensor | None], dim: int = 0) -> torch.Tensor | None:
    """Stack what each pair has; None where pairs have none."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present, dim) if present else None


def unpack_views(views: PackedViews, device: torch.device) -> ViewBatch:
    """Move a batch to the device, where its images are normalised and its masks become int64.

    The images equal, bit by bit on the CPU, those that `photometric_transform` normalises.
    """
    images = [tensor.to(device, non_blocking=True) for tensor in (views.query_images, views.key_images)]
    masks = [tensor.to(device, non_blocking=True) for tensor in (views.query_masks, views.key_masks)]
    query_images, key_images = (normalise_bytes(image) for image in images)
    query_masks, key_masks = (mask.long() for mask in masks)
    local = None
    if views.local_images is not None and views.local_masks is not None:
        local_images = normalise_bytes(views.local_images.to(device, non_blocking=True))
        local_masks = views.local_masks.to(device, non_blocking=True).long()
        local = LocalViews(local_images, local_masks, _shares(views.local_confidence, device))
    confidence = [_shares(values, device) for values in (views.query_confidence, views.key_confidence)]
    return ViewBatch(query_images, query_masks, key_images, key_masks, views.stems, local, *confidence)


def _shares(values: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    """Turn bytes into shares of 255."""
    return None if values is None else values.to(device, non_blocking=True).float() / 255
