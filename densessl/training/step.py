"""One step of MaskContrast pretraining: two views of a batch to a loss."""

from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric

from densessl.models.mask_contrast_model import ViewMasks
from densessl.objectives.mask_contrast import ContrastiveTerm, ObjectiveSettings, contrast_masks, contrast_views
from densessl.objectives.mask_prototypes import index_masks, mask_membership
from densessl.objectives.saliency_loss import balanced_saliency_loss
from densessl.structures import ViewBatch


@dataclass(frozen=True)
class StepResult:
    """What one step found: `loss`, scalar with gradient; `saliency_loss`, scalar without; the contrastive term."""

    loss: torch.Tensor
    saliency_loss: torch.Tensor
    term: ContrastiveTerm


def training_step(
    fabric: Fabric,
    model: torch.nn.Module,
    twin: torch.nn.Module,
    queue: torch.Tensor,
    batch: ViewBatch,
    objective: ObjectiveSettings,
    embedding_of: Literal["pixels", "masks"],
) -> StepResult:
    """Compute the loss of one batch: contrastive term plus weighted saliency term (arXiv:2102.06191, section 3).

    Args:
        fabric: device and precision.
        model: the network as `fabric.setup` wrapped it; gradient flows into it alone.
        twin: its momentum twin.
        queue: (length, dim), unit vectors of the memory bank.
        batch: two views of each image, with their masks.
        objective: the settings of the loss.
        embedding_of: that of the network (`ModelSettings`): the rows of the contrastive term are pixels or masks.
    """
    query_images, key_images = fabric.to_device(batch.query_images), fabric.to_device(batch.key_images)
    query_masks, key_masks = fabric.to_device(batch.query_masks), fabric.to_device(batch.key_masks)
    query_view = key_view = None
    if embedding_of == "masks":
        index = index_masks(query_masks, key_masks)
        query_view = ViewMasks(mask_membership(index.query, index.image), index.image)
        key_view = ViewMasks(mask_membership(index.key, index.image), index.image)
    query = model(query_images, query_view)
    with torch.no_grad(), fabric.autocast():
        key = twin(key_images, key_view)
    if query_view is not None and key_view is not None:
        is_present = query_view.membership.flatten(1).any(1) & key_view.membership.flatten(1).any(1)
        term = contrast_masks(query.embedding, key.embedding, is_present, queue, objective)
    else:
        term = contrast_views(query.embedding, query_masks, key.embedding, key_masks, queue, objective)
    saliency = query.saliency.float()
    size = query_masks.shape[-2:] if objective.resolution == "full" else saliency.shape[-2:]
    if saliency.shape[-2:] != size:
        saliency = torch.nn.functional.interpolate(saliency, size=size, mode="bilinear", align_corners=False)
    target = torch.nn.functional.interpolate((query_masks > 0).float().unsqueeze(1), size=size, mode="nearest-exact")
    saliency_loss = balanced_saliency_loss(saliency, target > 0.5)
    loss = term.loss + objective.saliency_weight * saliency_loss
    return StepResult(loss, saliency_loss.detach(), term)
