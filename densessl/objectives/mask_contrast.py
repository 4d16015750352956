"""The MaskContrast objective: pull each pixel to its mask's mean in the other view, push it from other masks' means."""

from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional as F

from densessl.objectives.false_negatives import false_negative_share
from densessl.objectives.key_prototypes import background_prototypes, key_prototypes
from densessl.objectives.loss_rows import Rows, pixel_rows, whole_rows
from densessl.objectives.mask_prototypes import index_masks, number_masks
from densessl.objectives.settings import ObjectiveSettings
from densessl.objectives.view_loss import ViewLoss, view_loss
from densessl.objectives.whole_batch import WholeBatch


class LocalPixels(NamedTuple):
    """Local views of a batch whose pixels are embedded: further crops of the images, seen by the query network alone.

    embedding: (num_local, batch, dim, h, w), not normalised; gradient flows. masks: int64 (num_local, batch, height,
    width), instance maps with the numbers of the key view. confidence: shaped as the masks, as in `Confidence`.
    """

    embedding: torch.Tensor
    masks: torch.Tensor
    confidence: torch.Tensor | None = None


class Confidence(NamedTuple):
    """How much each pixel of the two views counts, float (batch, height, width), in [0, 1]; 0 leaves it out."""

    query: torch.Tensor
    key: torch.Tensor


class LocalMasks(NamedTuple):
    """Local views of a batch whose masks are embedded as wholes.

    embedding: (num_local, num_masks, dim), not normalised; gradient flows. is_present: bool (num_local, num_masks),
    whether a local view shows the mask.
    """

    embedding: torch.Tensor
    is_present: torch.Tensor


class ContrastiveTerm(NamedTuple):
    """The contrastive loss and what it was made of, of the batch or, where `WholeBatch` was given, the whole batch.

    loss: scalar. prototypes: (num_masks, dim), the key prototypes of this batch, to be enqueued. positive_similarity,
    negative_similarity: scalars in [-1, 1], mean cosine of the rows (pixels, or whole masks) of the query view to their
    own mask's prototype, and to all negatives, backgrounds and excluded ones too. num_rows: rows of the query view that
    took part, of this process alone. false_negative_share: scalar, of this process alone, see
    `densessl.objectives.false_negatives`.
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
    local: LocalPixels | None = None,
    confidence: Confidence | None = None,
) -> ContrastiveTerm:
    """Compute the MaskContrast loss of two views of a batch (arXiv:2102.06191, equation 3).

    Gradient flows into `query_embedding` and the embedding of `local` alone.

    Args:
        query_embedding, key_embedding: (batch, dim, h, w), not normalised.
        query_masks, key_masks: int64 (batch, height, width) instance maps; a mask that is missing in the key view
            has no positive, and its pixels are left out.
        queue: (length, dim), unit vectors of the memory bank.
        settings: the objective's settings; whether `negatives` are global is said by `whole_batch` alone.
        whole_batch: makes the loss that of all processes, of whose batch these views are a part; None where they are
            all there is, or where negatives are local.
        local: local views, whose pixels are rows against the same columns; the loss is then the mean over the query
            view and those local views that have rows, each with a mean of its own (local to global: SwAV,
            arXiv:2006.09882, section 3.2; DINO, arXiv:2104.14294, section 3.1).
        confidence: the weights of pixels: of the rows, where shares of masks are shares of weights too, and in the
            means that are prototypes. All weigh 1 without it.

    Returns:
        The loss term; zero loss, with gradient zero, where no pixel has a positive.
    """
    index = index_masks(query_masks, key_masks)
    weights = confidence or (None, None)
    with torch.no_grad():
        prototypes, is_present = key_prototypes(key_embedding, index.key, index.image, settings.resolution, weights[1])
        background = None
        if settings.background == "negatives":
            background = background_prototypes(key_embedding, key_masks, settings.resolution, weights[1])
    rows_of = partial(
        pixel_rows,
        column=_columns(is_present),
        resolution=settings.resolution,
        pixels_per_mask=settings.pixels_per_mask,
    )
    views = [rows_of(query_embedding, index.query, confidence=weights[0])]
    if local is not None:
        local_weights = local.confidence if local.confidence is not None else [None] * len(local.masks)
        for embedding, masks, own in zip(local.embedding, local.masks, local_weights, strict=True):
            views.append(rows_of(embedding, number_masks(masks, index.image), confidence=own))
    return _term(views, prototypes[is_present], queue, settings, whole_batch, background)


def contrast_masks(
    query_embedding: torch.Tensor,
    key_embedding: torch.Tensor,
    is_present: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
    whole_batch: WholeBatch | None = None,
    local: LocalMasks | None = None,
) -> ContrastiveTerm:
    """Compute the same loss where each mask was embedded as a whole: masks are the rows, not pixels.

    Gradient flows into `query_embedding` and the embedding of `local` alone.

    Args:
        query_embedding, key_embedding: (num_masks, dim), not normalised.
        is_present: bool (num_masks,), whether both views hold the mask; the others are left out.
        queue: (length, dim), unit vectors of the memory bank.
        settings: the objective's settings. In `reference` mode all rows weigh the same, since each mask has one.
        whole_batch: as for `contrast_views`.
        local: local views, as for `contrast_views`; masks that are left out there are left out here.
    """
    prototypes = F.normalize(key_embedding[is_present].detach().float(), dim=1)
    masks = torch.arange(len(prototypes), device=prototypes.device)
    views = [[whole_rows(query_embedding[is_present], masks)]]
    if local is not None:
        column = _columns(is_present)
        for embedding, is_shown in zip(local.embedding, local.is_present & is_present, strict=True):
            views.append([whole_rows(embedding[is_shown], column[is_shown])])
    return _term(views, prototypes, queue, settings, whole_batch)


def mask_means(
    query_embedding: torch.Tensor,
    query_masks: torch.Tensor,
    key_embedding: torch.Tensor,
    key_masks: torch.Tensor,
    confidence: Confidence | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means of the masks that both views show, on the feature grid; arguments as for `contrast_views`.

    Returns:
        Query means (num, dim), unit vectors, with gradient, and key means (num, dim), without.
    """
    index = index_masks(query_masks, key_masks)
    weights = confidence or (None, None)
    query, in_query = key_prototypes(query_embedding, index.query, index.image, "grid", weights[0])
    with torch.no_grad():
        key, in_key = key_prototypes(key_embedding, index.key, index.image, "grid", weights[1])
    is_present = in_query & in_key
    return query[is_present], key[is_present]


def _columns(is_present: torch.Tensor) -> torch.Tensor:
    """Return the number of each mask among those present, int64 (num_masks,), -1 where it is not present."""
    return torch.where(is_present, is_present.cumsum(0) - 1, -1)


def _term(
    views: list[list[Rows]],
    prototypes: torch.Tensor,
    queue: torch.Tensor,
    settings: ObjectiveSettings,
    whole_batch: WholeBatch | None,
    background: torch.Tensor | None = None,
) -> ContrastiveTerm:
    """Compare the rows of the query view, and of local views after it, with the columns.

    `background`, (num, dim), are negatives beside the memory bank.
    """
    first, negatives = 0, queue
    if whole_batch is not None:
        prototypes, first = whole_batch.gather(prototypes)
    if background is not None:
        background = background if whole_batch is None else whole_batch.gather(background)[0]
        negatives = torch.cat([queue, background])
    found = [view_loss(parts, first, prototypes, negatives, settings, whole_batch) for parts in views]
    query = found[0]
    positive, negative = _similarities(query.sums, query.num_rows, prototypes, negatives)
    if whole_batch is not None:
        share = query.num_rows / query.num_all.clamp_min(1)
        positive, negative = whole_batch.total(torch.stack([positive, negative]) * share)
    similar = false_negative_share(query.sums, prototypes, queue)
    return ContrastiveTerm(_mean_over_views(found), prototypes, positive, negative, query.num_rows, similar)


def _mean_over_views(found: list[ViewLoss]) -> torch.Tensor:
    """Return the mean loss of those views that have rows; those without have a loss of zero."""
    if len(found) == 1:
        return found[0].loss
    num_views = torch.stack([view.num_all > 0 for view in found]).sum()
    return torch.stack([view.loss for view in found]).sum() / num_views.clamp_min(1)


def _similarities(
    sums: torch.Tensor, num_rows: int, prototypes: torch.Tensor, negatives: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cosine of the rows to their positive and to all negatives (batch, bank and backgrounds).

    Args:
        sums: (num_masks, dim), the sum of the rows of each mask.
        num_rows: how many rows there are.
        prototypes, negatives: (num_masks, dim) and (length, dim), the columns.
    """
    positives = (sums * prototypes).sum()
    total = sums.sum(0) @ torch.cat([prototypes, negatives]).sum(0) - positives
    num_negatives = num_rows * (len(prototypes) + len(negatives) - 1)
    return positives / max(num_rows, 1), total / max(num_negatives, 1)
