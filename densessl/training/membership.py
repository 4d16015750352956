"""The masks of a batch as a network takes them that embeds whole masks."""

from typing import NamedTuple

import torch

from densessl.models.mask_contrast_model import ViewMasks
from densessl.objectives.mask_contrast import Confidence, LocalMasks
from densessl.objectives.mask_prototypes import index_masks, mask_membership, number_masks
from densessl.structures import LocalViews


class Membership(NamedTuple):
    """Each mask of a batch in the query view, the key view and the local views, if there are any.

    query, key: num_masks masks each, in the same order. local: num_local * num_masks, view by view; their images are
    numbered over the local views, of which each image has one after the other (num_local * batch).
    """

    query: ViewMasks
    key: ViewMasks
    local: ViewMasks | None

    @property
    def is_present(self) -> torch.Tensor:
        """Whether both the query and the key view show the mask, bool (num_masks,)."""
        return _is_shown(self.query) & _is_shown(self.key)

    def local_rows(self, embedding: torch.Tensor | None) -> LocalMasks | None:
        """Put the embedding of local masks (num_local * num_masks, dim) together with which of them are shown."""
        if embedding is None or self.local is None:
            return None
        num_masks = len(self.query.image)
        shape = (len(self.local.image) // max(num_masks, 1), num_masks)
        return LocalMasks(embedding.unflatten(0, shape), _is_shown(self.local).view(shape))


def membership_of(
    query_masks: torch.Tensor,
    key_masks: torch.Tensor,
    local: LocalViews | None = None,
    confidence: Confidence | None = None,
) -> Membership:
    """Split the masks of a batch into single ones.

    Args:
        query_masks, key_masks: int64 (batch, height, width), instance maps.
        local: local views; masks that neither of the other two views shows are left out there.
        confidence: so much of each pixel belongs to its mask, as in `local`; all of it without.
    """
    index = index_masks(query_masks, key_masks)
    weights = confidence or (None, None)
    query = ViewMasks(_weighed(index.query, index.image, weights[0]), index.image)
    key = ViewMasks(_weighed(index.key, index.image, weights[1]), index.image)
    if local is None:
        return Membership(query, key, None)
    local_weights = local.confidence if local.confidence is not None else [None] * len(local.masks)
    found = [
        _weighed(number_masks(masks, index.image), index.image, own)
        for masks, own in zip(local.masks, local_weights, strict=True)
    ]
    membership = torch.cat(found)
    image = torch.cat([index.image + view * len(query_masks) for view in range(len(local.masks))])
    return Membership(query, key, ViewMasks(membership, image))


def _weighed(masks: torch.Tensor, image: torch.Tensor, confidence: torch.Tensor | None) -> torch.Tensor:
    membership = mask_membership(masks, image)
    return membership if confidence is None else membership * confidence[image]


def _is_shown(view: ViewMasks) -> torch.Tensor:
    return view.membership.flatten(1).any(1)
