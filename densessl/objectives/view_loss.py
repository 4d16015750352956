"""The contrastive loss of the rows of one view, in parts where it would need too much memory, and of all processes."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from densessl.objectives.contrastive_losses import formula_loss, reference_loss
from densessl.objectives.loss_rows import Rows
from densessl.objectives.settings import ObjectiveSettings
from densessl.objectives.whole_batch import WholeBatch


class ViewLoss(NamedTuple):
    """The loss of one view, counted over the whole batch where there is one, and what it was made of.

    num_all: rows of the whole batch. sums: (num_masks, dim), the rows of each mask of this process, added.
    num_rows: rows of this process.
    """

    loss: torch.Tensor
    num_all: torch.Tensor
    sums: torch.Tensor
    num_rows: int


def view_loss(
    parts: list[Rows],
    first: int,
    prototypes: torch.Tensor,
    negatives: torch.Tensor,
    settings: ObjectiveSettings,
    whole_batch: WholeBatch | None,
) -> ViewLoss:
    """Return the loss of the rows of one view; `first` is the number of this process's first prototype."""
    masks = [part.masks + first for part in parts]
    own_counts = torch.stack([torch.bincount(numbers, minlength=len(prototypes)) for numbers in masks]).sum(0)
    counts = mass = own_counts if whole_batch is None else whole_batch.total(own_counts)
    if parts[0].weights is not None:
        zeros = torch.zeros(len(prototypes), device=prototypes.device)
        weighed = [  # as a weighted bincount, which on a GPU does not repeat itself
            zeros.index_add(0, numbers, part.weights)
            for part, numbers in zip(parts, masks, strict=True)
            if part.weights is not None
        ]
        mass = torch.stack(weighed).sum(0)
        mass = mass if whole_batch is None else whole_batch.total(mass)
    if len(parts) == 1:
        is_known = whole_batch is not None or parts[0].weights is not None  # else the loss counts by itself
        loss, sums = _part_loss(
            parts[0].given,
            parts[0].embed,
            parts[0].weights,
            masks[0],
            prototypes,
            negatives,
            settings,
            mass if is_known else None,
        )
    else:
        found = [
            checkpoint(
                _part_loss,
                part.given,
                part.embed,
                part.weights,
                numbers,
                prototypes,
                negatives,
                settings,
                mass,
                use_reentrant=False,
            )
            for part, numbers in zip(parts, masks, strict=True)
        ]
        loss, sums = (torch.stack(values).sum(0) for values in zip(*found, strict=True))
    if whole_batch is not None:
        loss = whole_batch.total(loss)
    return ViewLoss(loss, counts.sum(), sums, int(own_counts.sum()))


def _part_loss(
    given: torch.Tensor,
    embed: Callable[[torch.Tensor], torch.Tensor],
    weights: torch.Tensor | None,
    masks: torch.Tensor,
    prototypes: torch.Tensor,
    negatives: torch.Tensor,
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
        negatives,
        settings.temperature,
        exclude_similar=settings.exclude_similar,
        counts=counts,
        weights=weights,
    )
    return loss, torch.zeros_like(prototypes).index_add_(0, masks, embeddings.detach())
