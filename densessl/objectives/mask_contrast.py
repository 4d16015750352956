"""The MaskContrast objective: pull each pixel to its mask's mean in the other view, push it from other masks' means."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from densessl.errors import InputError
from densessl.objectives.contrastive_losses import formula_loss, reference_loss
from densessl.objectives.false_negatives import false_negative_share
from densessl.objectives.mask_prototypes import MaskIndex, index_masks, mask_prototypes


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
        negatives: with several processes, local (each computes the loss of its own part of the batch: the masks of
            its own images are the negatives and the means are over its own pixels, as published) or global (the loss,
            saliency term included, is that of the whole batch, as one process would compute it).
    """

    mode: Literal["reference", "formula"] = "reference"
    temperature: float = 0.5
    queue_length: int = 128
    momentum: float = 0.999
    saliency_weight: float = 1.0
    resolution: Literal["grid", "full"] = "grid"
    pixels_per_mask: int = 0
    exclude_similar: float = 0.0
    negatives: Literal["local", "global"] = "local"

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


class WholeBatch(NamedTuple):
    """How the parts of a batch come together where several processes hold one each; every process calls in turn.

    gather: turns the rows (num, dim) of this part into those of all parts, in order, without gradient, and the number
        of this part's first row among them.
    total: adds a tensor over the parts; each part receives the gradient of every part's result.
    """

    gather: Callable[[torch.Tensor], tuple[torch.Tensor, int]]
    total: Callable[[torch.Tensor], torch.Tensor]


class ContrastiveTerm(NamedTuple):
    """The contrastive loss and what it was made of, of the batch or, where `WholeBatch` was given, the whole batch.

    loss: scalar. prototypes: (num_masks, dim), the key prototypes of this batch, to be enqueued. positive_similarity,
    negative_similarity: scalars in [-1, 1], mean cosine of the rows (pixels, or whole masks) to their own mask's
    prototype, and to all negatives, excluded ones too. num_rows: rows that took part, of this process alone.
    false_negative_share: scalar, of this process alone, see `densessl.objectives.false_negatives`.
    """

    loss: torch.Tensor
    prototypes: torch.Tensor
    positive_similarity: torch.Tensor
    negative_similarity: torch.Tensor
    num_rows: int
    false_negative_share: torch.Tensor


def contrast_views(
    query_embedding: torch.Tensor,
    query_masks: torch.Tensor,
    key_embedding: torch.Tensor,
    key_masks: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
    whole_batch: WholeBatch | None = None,
) -> ContrastiveTerm:
    """Compute the MaskContrast loss of two views of a batch (arXiv:2102.06191, equation 3).

    Gradient flows into `query_embedding` alone.

    Args:
        query_embedding, key_embedding: (batch, dim, h, w), not normalised.
        query_masks, key_masks: int64 (batch, height, width) instance maps; a mask that is missing in the key view
            has no positive, and its pixels are left out.
        queue: (length, dim), unit vectors of the memory bank.
        settings: the objective's settings; whether `negatives` are global is said by `whole_batch` alone.
        whole_batch: makes the loss that of all processes, of whose batch these views are a part; None where they are
            all there is, or where negatives are local.

    Returns:
        The loss term; zero loss, with gradient zero, where no pixel has a positive.
    """
    index = index_masks(query_masks, key_masks)
    size = query_masks.shape[-2:] if settings.resolution == "full" else query_embedding.shape[-2:]
    with torch.no_grad():
        prototypes, is_present = _key_prototypes(key_embedding, key_masks, index, settings.resolution)
        column = torch.where(is_present, is_present.cumsum(0) - 1, -1)  # (num_masks,), number among those present
        prototypes = prototypes[is_present]
        cells, masks = select_cells(index.query, column, size, settings.pixels_per_mask)
    if settings.resolution == "grid":
        parts = [_Rows(query_embedding, masks, partial(_embed_cells, cells=cells, size=size))]
    else:  # image by image: all pixels of all images at once are many times the network's features
        ends = torch.searchsorted(cells, torch.arange(1, len(query_masks) + 1, device=cells.device) * size.numel())
        of_image = torch.tensor_split(torch.arange(len(cells), device=cells.device), ends[:-1].cpu())
        parts = [
            _Rows(
                query_embedding[image : image + 1],
                masks[chosen],
                partial(_embed_cells, cells=cells[chosen] - image * size.numel(), size=size),
            )
            for image, chosen in enumerate(of_image)
        ]
    return _term(parts, prototypes, queue, settings, whole_batch)


def contrast_masks(
    query_embedding: torch.Tensor,
    key_embedding: torch.Tensor,
    is_present: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
    whole_batch: WholeBatch | None = None,
) -> ContrastiveTerm:
    """Compute the same loss where each mask was embedded as a whole: masks are the rows, not pixels.

    Gradient flows into `query_embedding` alone.

    Args:
        query_embedding, key_embedding: (num_masks, dim), not normalised.
        is_present: bool (num_masks,), whether both views hold the mask; the others are left out.
        queue: (length, dim), unit vectors of the memory bank.
        settings: the objective's settings. In `reference` mode all rows weigh the same, since each mask has one.
        whole_batch: as for `contrast_views`.
    """
    prototypes = F.normalize(key_embedding[is_present].detach().float(), dim=1)
    masks = torch.arange(len(prototypes), device=prototypes.device)
    rows = _Rows(query_embedding[is_present], masks, _unit_vectors)
    return _term([rows], prototypes, queue, settings, whole_batch)


class _Rows(NamedTuple):
    """Rows of the contrastive loss, pixels or whole masks, that are computed when they are needed.

    given: what they are computed from; gradient flows into it. masks: int64 (num,), the prototype of each.
    embed: turns `given` into unit vectors (num, dim).
    """

    given: torch.Tensor
    masks: torch.Tensor
    embed: Callable[[torch.Tensor], torch.Tensor]


def _term(
    parts: list[_Rows],
    prototypes: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
    whole_batch: WholeBatch | None,
) -> ContrastiveTerm:
    first = 0
    if whole_batch is not None:
        prototypes, first = whole_batch.gather(prototypes)
    masks = [part.masks + first for part in parts]
    own_counts = torch.stack([torch.bincount(numbers, minlength=len(prototypes)) for numbers in masks]).sum(0)
    counts = own_counts if whole_batch is None else whole_batch.total(own_counts)
    if len(parts) == 1:
        known = None if whole_batch is None else counts  # of a whole batch, the loss counts by itself
        loss, sums = _part_loss(parts[0].given, parts[0].embed, masks[0], prototypes, queue, settings, known)
    else:
        found = [
            checkpoint(
                _part_loss, part.given, part.embed, numbers, prototypes, queue, settings, counts, use_reentrant=False
            )
            for part, numbers in zip(parts, masks, strict=True)
        ]
        loss, sums = (torch.stack(values).sum(0) for values in zip(*found, strict=True))
    num_rows = int(own_counts.sum())
    positive, negative = _similarities(sums, num_rows, prototypes, queue)
    if whole_batch is not None:
        loss = whole_batch.total(loss)
        share = num_rows / counts.sum().clamp_min(1)
        positive, negative = whole_batch.total(torch.stack([positive, negative]) * share)
    similar = false_negative_share(sums, prototypes, queue)
    return ContrastiveTerm(loss, prototypes, positive, negative, num_rows, similar)


def _part_loss(
    given: torch.Tensor,
    embed: Callable[[torch.Tensor], torch.Tensor],
    masks: torch.Tensor,
    prototypes: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
    counts: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the share of these rows in the loss, and the sum of the rows of each mask (num_masks, dim)."""
    embeddings = embed(given)
    match settings.mode:
        case "reference":
            loss_of = reference_loss
        case "formula":
            loss_of = formula_loss
    loss = loss_of(
        embeddings,
        masks,
        prototypes,
        queue,
        settings.temperature,
        exclude_similar=settings.exclude_similar,
        counts=counts,
    )
    return loss, torch.zeros_like(prototypes).index_add_(0, masks, embeddings.detach())


def select_cells(
    masks: torch.Tensor, column: torch.Tensor, size: torch.Size, pixels_per_mask: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick the foreground cells of the query view that have a positive.

    Args:
        masks: int64 (batch, height, width), mask number over the batch or -1; brought to `size` by nearest sampling.
        column: int64 (num_masks,), the prototype of each mask, -1 where it has none.
        size: (h, w) of the maps whose cells are picked.
        pixels_per_mask: at most so many pixels of each mask, drawn at random; 0 takes all.

    Returns:
        cells, int64 (num,), ascending numbers into (batch, h, w) flattened, and int64 (num,), the prototype of each.
    """
    masks = _nearest(masks, size)
    target = torch.full_like(masks, -1)
    is_foreground = masks >= 0
    target[is_foreground] = column[masks[is_foreground]]
    target = target.flatten()
    chosen = (target >= 0).nonzero().squeeze(1)
    if pixels_per_mask > 0:
        chosen = _sample_per_mask(chosen, target[chosen], pixels_per_mask)
    return chosen, target[chosen]


def _embed_cells(embedding: torch.Tensor, cells: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Return the unit vectors (num, dim) of chosen cells of maps (batch, dim, h, w), enlarged to `size` first."""
    flat = _resize(embedding, size).permute(0, 2, 3, 1).flatten(0, 2)  # (batch * height * width, dim)
    return _unit_vectors(flat[cells])


def _unit_vectors(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors.float(), dim=1)


def _key_prototypes(
    embedding: torch.Tensor, masks: torch.Tensor, index: MaskIndex, resolution: Literal["grid", "full"]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prototypes of the key view (num_masks, dim) and which of them it shows, bool (num_masks,)."""
    if resolution == "grid":
        return mask_prototypes(F.normalize(embedding.float(), dim=1), index.key, index.image)
    found = []
    for number in range(len(masks)):
        numbers = (index.image == number).nonzero().squeeze(1)
        first = numbers[:1].sum()  # 0 where the image has no mask
        own = torch.where(index.key[number] >= 0, index.key[number] - first, -1)
        keys = F.normalize(_resize(embedding[number : number + 1], masks.shape[-2:]), dim=1)
        found.append(mask_prototypes(keys, own.unsqueeze(0), torch.zeros_like(numbers)))
    prototypes, is_present = (torch.cat(values) for values in zip(*found, strict=True))
    return prototypes, is_present


def _similarities(
    sums: torch.Tensor, num_rows: int, prototypes: torch.Tensor, queue: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cosine of the rows to their positive and to all negatives (batch and bank).

    Args:
        sums: (num_masks, dim), the sum of the rows of each mask.
        num_rows: how many rows there are.
        prototypes, queue: (num_masks, dim) and (length, dim), the columns.
    """
    positives = (sums * prototypes).sum()
    total = sums.sum(0) @ torch.cat([prototypes, queue]).sum(0) - positives
    num_negatives = num_rows * (len(prototypes) + len(queue) - 1)
    return positives / max(num_rows, 1), total / max(num_negatives, 1)


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


def _resize(embedding: torch.Tensor, size: torch.Size) -> torch.Tensor:
    if embedding.shape[-2:] == size:
        return embedding
    return F.interpolate(embedding.float(), size=size, mode="bilinear", align_corners=False)
