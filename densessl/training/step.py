"""One step of MaskContrast pretraining: two views of a batch to a loss."""

from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from densessl.models.mask_contrast_model import DenseOutput
from densessl.objectives.mask_contrast import (
    Confidence,
    ContrastiveTerm,
    LocalPixels,
    contrast_masks,
    contrast_views,
    mask_means,
)
from densessl.objectives.prototype_codes import prototype_loss
from densessl.objectives.saliency_loss import balanced_saliency_loss
from densessl.objectives.settings import ObjectiveSettings
from densessl.objectives.whole_batch import WholeBatch
from densessl.structures import LocalViews, ViewBatch
from densessl.training.batch_norm import embed_shuffled
from densessl.training.devices import gather_rows, whole_batch
from densessl.training.membership import Membership, membership_of
from densessl.training.step_profile import stage


@dataclass(frozen=True)
class StepResult:
    """What one step found: `loss`, scalar with gradient; `saliency_loss`, scalar without; the contrastive term;
    `swav_loss`, scalar without gradient, where the objective has it.

    The term's prototypes are those of all processes. The losses are those of this process's images, or of the whole
    batch where `objective.negatives` is global.
    """

    loss: torch.Tensor
    saliency_loss: torch.Tensor
    term: ContrastiveTerm
    swav_loss: torch.Tensor | None = None


def training_step(
    fabric: Fabric,
    model: torch.nn.Module,
    twin: torch.nn.Module,
    queue: torch.Tensor,
    batch: ViewBatch,
    objective: ObjectiveSettings,
    embedding_of: Literal["pixels", "masks"],
    shuffle_seed: int | None = None,
    num_queued: int = 0,
) -> StepResult:
    """Compute the loss of one batch: contrastive term plus weighted saliency term (arXiv:2102.06191, section 3).

    Where the objective has it, the weighted prototype term of `densessl.objectives.prototype_codes` is added.

    Args:
        fabric: device and precision.
        model: the network as `fabric.setup` wrapped it; gradient flows into it alone.
        twin: its momentum twin.
        queue: (length, dim), unit vectors of the memory bank.
        batch: two views of each image, with their masks, and local views if there are any.
        objective: the settings of the loss.
        embedding_of: that of the network (`ModelSettings`): the rows of the contrastive term are pixels or masks.
        shuffle_seed: embed the key images on processes chosen by it, the same on all; None embeds each where it is.
        num_queued: first rows of the memory bank that hold prototypes, where `objective.swav_use_bank` wants them.
    """
    query_images, key_images = fabric.to_device(batch.query_images), fabric.to_device(batch.key_images)
    query_masks, key_masks = fabric.to_device(batch.query_masks), fabric.to_device(batch.key_masks)
    local, confidence = _local(fabric, batch, objective), _confidence(fabric, batch, objective)
    wholes = membership_of(query_masks, key_masks, local, confidence) if embedding_of == "masks" else None
    processes = whole_batch(fabric)
    whole = processes if objective.negatives == "global" else None
    with stage("query forward"):
        query = _embed_query(model, query_images, local, wholes)
    with stage("key forward"), torch.no_grad(), fabric.autocast():
        if shuffle_seed is None or fabric.world_size == 1:
            key = twin(key_images, wholes and wholes.key).embedding
        else:
            masks = (query_masks, key_masks, confidence and confidence.key)
            key = embed_shuffled(fabric, twin, key_images, *masks, embedding_of, shuffle_seed)
    with stage("contrastive loss"):
        if wholes is not None:
            rows = wholes.local_rows(query.local_embedding)
            term = contrast_masks(query.embedding, key, wholes.is_present, queue, objective, whole, rows)
        else:
            pixels = _local_pixels(query.local_embedding, local)
            views = (query.embedding, query_masks, key, key_masks)
            term = contrast_views(*views, queue, objective, whole, pixels, confidence)
        if whole is None:
            term = term._replace(prototypes=gather_rows(fabric, term.prototypes))
    with stage("saliency loss"):
        saliency_loss = _saliency_loss(query.saliency.float(), query_masks > 0, objective, whole)
    loss = term.loss + objective.saliency_weight * saliency_loss
    if query.prototypes is None:
        return StepResult(loss, saliency_loss.detach(), term)
    with stage("prototype loss"):
        if wholes is not None:
            query_means, key_means = (F.normalize(rows[wholes.is_present].float()) for rows in (query.embedding, key))
        else:
            query_means, key_means = mask_means(query.embedding, query_masks, key, key_masks, confidence)
        swav_loss = prototype_loss(
            query_means,
            key_means,
            query.prototypes,
            queue[:num_queued],
            objective,
            processes,
            is_whole=whole is not None,
        )
    return StepResult(loss + objective.swav_weight * swav_loss, saliency_loss.detach(), term, swav_loss.detach())


def _embed_query(
    model: torch.nn.Module, images: torch.Tensor, local: LocalViews | None, wholes: Membership | None
) -> DenseOutput:
    """Send the query view, and local views after it, through the network."""
    masks = None if wholes is None else wholes.query
    if local is None:
        return model(images, masks)
    return model(images, masks, local.images.flatten(0, 1), None if wholes is None else wholes.local)


def _local_pixels(embedding: torch.Tensor | None, local: LocalViews | None) -> LocalPixels | None:
    """Put the embedding of local views (num_local * batch, dim, h, w) together with their masks."""
    if embedding is None or local is None:
        return None
    return LocalPixels(embedding.unflatten(0, local.masks.shape[:2]), local.masks, local.confidence)


def _local(fabric: Fabric, batch: ViewBatch, objective: ObjectiveSettings) -> LocalViews | None:
    """Bring the local views to the device, where the batch has any, with confidence where the objective wants it."""
    if batch.local is None:
        return None
    confidence = None
    if objective.confidence_weighted and batch.local.confidence is not None:
        confidence = fabric.to_device(batch.local.confidence)
    return LocalViews(fabric.to_device(batch.local.images), fabric.to_device(batch.local.masks), confidence)


def _confidence(fabric: Fabric, batch: ViewBatch, objective: ObjectiveSettings) -> Confidence | None:
    """Bring the confidence of the two views to the device, where the objective wants it."""
    if not objective.confidence_weighted:
        return None
    if batch.query_confidence is None or batch.key_confidence is None:
        raise ValueError("the objective weighs pixels by confidence, which the views lack; give it to PairedViews")
    return Confidence(fabric.to_device(batch.query_confidence), fabric.to_device(batch.key_confidence))


def mean_result(results: list[StepResult]) -> StepResult:
    """Return the result of a step that was taken in parts: means, all prototypes in order, without gradient."""
    if len(results) == 1:
        return results[0]
    terms = [result.term for result in results]
    means = {
        name: torch.stack([getattr(term, name).detach() for term in terms]).mean()
        for name in ("loss", "positive_similarity", "negative_similarity", "false_negative_share")
    }
    prototypes = torch.cat([term.prototypes for term in terms])
    term = ContrastiveTerm(**means, prototypes=prototypes, num_rows=sum(term.num_rows for term in terms))
    loss, saliency_loss = (
        torch.stack([getattr(result, name).detach() for result in results]).mean() for name in ("loss", "saliency_loss")
    )
    swav_losses = [result.swav_loss for result in results if result.swav_loss is not None]
    return StepResult(loss, saliency_loss, term, torch.stack(swav_losses).mean() if swav_losses else None)


def _saliency_loss(
    logits: torch.Tensor, target: torch.Tensor, objective: ObjectiveSettings, whole: WholeBatch | None
) -> torch.Tensor:
    """Return the saliency loss of logits (batch, 1, h, w) against a foreground (batch, height, width), bool.

    With `whole`, that of the whole batch, of which these images are a part.
    """
    size = target.shape[-2:] if objective.resolution == "full" else logits.shape[-2:]
    if logits.shape[-2:] != size:
        logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    is_foreground = torch.nn.functional.interpolate(target.float().unsqueeze(1), size=size, mode="nearest-exact") > 0.5
    if whole is None:
        return balanced_saliency_loss(logits, is_foreground)
    num_pixels = torch.full((), is_foreground.numel(), device=is_foreground.device)
    counts = whole.total(torch.stack([is_foreground.sum(), num_pixels]))
    return whole.total(balanced_saliency_loss(logits, is_foreground, counts))
