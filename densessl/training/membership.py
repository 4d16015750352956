"""The masks of a batch as a network takes them that embeds whole masks."""

from typing import NamedTuple

import torch

from densessl.models.mask_contrast_model import ViewMasks
from densessl.objectives.mask_contrast import LocalMasks
from densessl.objectives.mask_prototypes import index_masks, mask_membership, number_masks


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
    query_masks: torch.Tensor, key_masks: torch.Tensor, local_masks: torch.Tensor | None = None
) -> Membership:
    """Split the masks of a batch into single ones.

    Args:
        query_masks, key_masks: int64 (batch, height, width), instance maps.
        local_masks: int64 (num_local, batch, height, width), those of local views; masks that neither of the other two
            views shows are left out.
    """
    index = index_masks(query_masks, key_masks)
    query = ViewMasks(mask_membership(index.query, index.image), index.image)
    key = ViewMasks(mask_membership(index.key, index.image), index.image)
    if local_masks is None:
        return Membership(query, key, None)
    numbered = [number_masks(masks, index.image) for masks in local_masks]
    membership = torch.cat([mask_membership(masks, index.image) for masks in numbered])
    image = torch.cat([index.image + view * len(query_masks) for view in range(len(local_masks))])
    return Membership(query, key, ViewMasks(membership, image))


def _is_shown(view: ViewMasks) -> torch.Tensor:
    return view.membership.flatten(1).any(1)
