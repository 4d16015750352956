"""The MaskContrast objective: pull each pixel to its mask's mean in the other view, push it from other masks' means."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F

from densessl.errors import InputError
from densessl.objectives.contrastive_losses import formula_loss, reference_loss
from densessl.objectives.mask_prototypes import index_masks, mask_prototypes


@dataclass(frozen=True)
class ObjectiveSettings:
    """The MaskContrast loss.

    Args:
        mode: reference (as in the published code: the batch's other masks are negatives too, and pixels are weighted
            by the rarity of their mask) or formula (the paper's equation: negatives from the memory bank alone, every
            pixel counts the same).
        temperature: divides the similarities (published 0.5).
        queue_length: prototypes in the memory bank, any number, 0 for none (published 128 or 256).
        momentum: of the key network (published 0.999).
        saliency_weight: weight of the class-balanced cross-entropy of the saliency head (published 1; it is not part
            of the paper's equation, 0 leaves it out).
        resolution: grid (the loss on the feature grid) or full (embeddings upsampled to the image size first, as
            published; 64 times the rows at output stride 8).
        pixels_per_mask: draw at most this many pixels of each mask as rows of the loss; 0 takes all.
        exclude_similar: share of the negatives, those most similar to a mask's own prototype, that do not count for
            that mask, because they are likely to show the same class (false negative elimination, Huynh et al. 2022,
            arXiv:2011.11765, section 3.2); 0 keeps all, as published.
    """

    mode: Literal["reference", "formula"] = "reference"
    temperature: float = 0.5
    queue_length: int = 128
    momentum: float = 0.999
    saliency_weight: float = 1.0
    resolution: Literal["grid", "full"] = "grid"
    pixels_per_mask: int = 0
    exclude_similar: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"objective.temperature is {self.temperature}; it must be positive (published 0.5)")
        if self.queue_length < 0:
            raise InputError(f"objective.queue_length is {self.queue_length}; it must be 0 or more (published 128)")
        if self.mode == "formula" and self.queue_length == 0:
            raise InputError(
                "objective.queue_length is 0 in formula mode, whose only negatives come from the memory bank; "
                "give it a length (published 128) or use mode reference"
            )
        if not 0 <= self.momentum <= 1:
            raise InputError(f"objective.momentum is {self.momentum}; it must lie in [0, 1] (published 0.999)")
        if self.saliency_weight < 0:
            raise InputError(f"objective.saliency_weight is {self.saliency_weight}; it must be 0 or more (published 1)")
        if self.pixels_per_mask < 0:
            raise InputError(f"objective.pixels_per_mask is {self.pixels_per_mask}; it must be 0 (all) or more")
        if not 0 <= self.exclude_similar < 1:
            raise InputError(
                f"objective.exclude_similar is {self.exclude_similar}; it is a share in [0, 1), 0 to keep all negatives"
            )


class LossRows(NamedTuple):
    """The rows of the contrastive loss, pixels or whole masks: unit embeddings (num, dim), each one's mask (num,)."""

    embeddings: torch.Tensor
    masks: torch.Tensor


class ContrastiveTerm(NamedTuple):
    """The contrastive loss and what it was made of.

    loss: scalar. prototypes: (num_masks, dim), the key prototypes of this batch, to be enqueued. positive_similarity,
    negative_similarity: scalars in [-1, 1], mean cosine of the rows (pixels, or whole masks) to their own mask's
    prototype, and to all negatives, excluded ones too. num_rows: rows that took part.
    """

    loss: torch.Tensor
    prototypes: torch.Tensor
    positive_similarity: torch.Tensor
    negative_similarity: torch.Tensor
    num_rows: int


def contrast_views(
    query_embedding: torch.Tensor,
    query_masks: torch.Tensor,
    key_embedding: torch.Tensor,
    key_masks: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
) -> ContrastiveTerm:
    """Compute the MaskContrast loss of two views of a batch (arXiv:2102.06191, equation 3).

    Gradient flows into `query_embedding` alone.

    Args:
        query_embedding, key_embedding: (batch, dim, h, w), not normalised.
        query_masks, key_masks: int64 (batch, height, width) instance maps; a mask that is missing in the key view
            has no positive, and its pixels are left out.
        queue: (length, dim), unit vectors of the memory bank.
        settings: the objective's settings.

    Returns:
        The loss term; zero loss, with gradient zero, where no pixel has a positive.
    """
    if settings.resolution == "full":
        query_embedding = _upsample(query_embedding, query_masks)
        key_embedding = _upsample(key_embedding, key_masks)
    index = index_masks(query_masks, key_masks)
    with torch.no_grad():
        keys = F.normalize(key_embedding.float(), dim=1)
        prototypes, is_present = mask_prototypes(keys, index.key, index.image)
        column = torch.where(is_present, is_present.cumsum(0) - 1, -1)  # (num_masks,), number among those present
        prototypes = prototypes[is_present]
    rows = select_rows(query_embedding, index.query, column, settings.pixels_per_mask)
    return _term(rows, prototypes, queue, settings)


def contrast_masks(
    query_embedding: torch.Tensor,
    key_embedding: torch.Tensor,
    is_present: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
) -> ContrastiveTerm:
    """Compute the same loss where each mask was embedded as a whole: masks are the rows, not pixels.

    Gradient flows into `query_embedding` alone.

    Args:
        query_embedding, key_embedding: (num_masks, dim), not normalised.
        is_present: bool (num_masks,), whether both views hold the mask; the others are left out.
        queue: (length, dim), unit vectors of the memory bank.
        settings: the objective's settings. In `reference` mode all rows weigh the same, since each mask has one.
    """
    prototypes = F.normalize(key_embedding[is_present].detach().float(), dim=1)
    rows = F.normalize(query_embedding[is_present].float(), dim=1)
    return _term(LossRows(rows, torch.arange(len(rows), device=rows.device)), prototypes, queue, settings)


def _term(
    rows: LossRows, prototypes: torch.Tensor, queue: torch.Tensor, settings: ObjectiveSettings
) -> ContrastiveTerm:
    match settings.mode:
        case "reference":
            loss_of = reference_loss
        case "formula":
            loss_of = formula_loss
    loss = loss_of(
        rows.embeddings, rows.masks, prototypes, queue, settings.temperature, exclude_similar=settings.exclude_similar
    )
    positive, negative = _similarities(rows, prototypes, queue)
    return ContrastiveTerm(loss, prototypes, positive, negative, len(rows.masks))


def select_rows(
    query_embedding: torch.Tensor, masks: torch.Tensor, column: torch.Tensor, pixels_per_mask: int = 0
) -> LossRows:
    """Pick the foreground cells of the query view that have a positive.

    Args:
        query_embedding: (batch, dim, h, w), not normalised.
        masks: int64 (batch, height, width), mask number over the batch or -1; brought to (h, w) by nearest sampling.
        column: int64 (num_masks,), the prototype of each mask, -1 where it has none.
        pixels_per_mask: at most so many pixels of each mask, drawn at random; 0 takes all.
    """
    masks = _nearest(masks, query_embedding.shape[-2:])
    target = torch.full_like(masks, -1)
    is_foreground = masks >= 0
    target[is_foreground] = column[masks[is_foreground]]
    flat = query_embedding.permute(0, 2, 3, 1).flatten(0, 2)  # (batch * h * w, dim)
    chosen = (target.flatten() >= 0).nonzero().squeeze(1)
    if pixels_per_mask > 0:
        chosen = _sample_per_mask(chosen, target.flatten()[chosen], pixels_per_mask)
    return LossRows(F.normalize(flat[chosen].float(), dim=1), target.flatten()[chosen])


def _similarities(rows: LossRows, prototypes: torch.Tensor, queue: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cosine to the positive and to all negatives (batch and bank), without gradient."""
    if len(rows.masks) == 0:
        zero = rows.embeddings.detach().sum() * 0.0
        return zero, zero
    embeddings = rows.embeddings.detach()
    positives = (embeddings * prototypes[rows.masks]).sum(1)
    total = embeddings.sum(0) @ torch.cat([prototypes, queue]).sum(0) - positives.sum()
    num_negatives = len(embeddings) * (len(prototypes) + len(queue) - 1)
    return positives.mean(), total / max(num_negatives, 1)


def _sample_per_mask(chosen: torch.Tensor, masks: torch.Tensor, pixels_per_mask: int) -> torch.Tensor:
    """Keep at most `pixels_per_mask` of the chosen rows of each mask, drawn uniformly, in their order."""
    shuffled = torch.randperm(len(chosen), device=chosen.device)
    order = shuffled[torch.argsort(masks[shuffled], stable=True)]
    counts = torch.bincount(masks)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - starts[masks[order]]
    return chosen[order[rank < pixels_per_mask].sort().values]


def _nearest(masks: torch.Tensor, size: torch.Size) -> torch.Tensor:
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks.unsqueeze(1).float(), size=size, mode="nearest-exact").squeeze(1).long()


def _upsample(embedding: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return F.interpolate(embedding.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False)
