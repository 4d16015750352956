"""The two forms of the MaskContrast loss on rows and columns: the paper's equation and the published code."""

import torch
from torch.nn import functional as F


def formula_loss(
    embeddings: torch.Tensor,
    masks: torch.Tensor,
    prototypes: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
    *,
    exclude_similar: float = 0.0,
    counts: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean over pixels of the paper's equation 3 (arXiv:2102.06191).

    L_i = -log( exp(z_i . p_{M(i)} / t) / ( exp(z_i . p_{M(i)} / t) + sum_k exp(z_i . n_k / t) ) )

    Args:
        embeddings: z (num, dim), unit vectors; gradient flows.
        masks: M (num,), row of `prototypes` that is each pixel's positive.
        prototypes: p (num_masks, dim), unit vectors, no gradient.
        negatives: n (length, dim), the memory bank.
        temperature: t > 0.
        exclude_similar: share of the negatives, those most similar to p_{M(i)}, that are left out of the sum.
        counts: (num_masks,), the pixels of each mask in the whole batch, where these are only a part of it; the result
            is then the part's share: over all parts they add up to the loss of the whole batch.
        weights: (num,), positive, as how many pixels each counts; `counts` are then sums of weights, and are needed.
    """
    if len(masks) == 0:
        return embeddings.sum() * 0.0
    positive = (embeddings * prototypes[masks]).sum(1, keepdim=True)  # (num, 1)
    negative = embeddings @ negatives.T  # (num, length)
    if exclude_similar > 0:
        excluded = most_similar(prototypes @ negatives.T, exclude_similar)
        negative = negative.masked_fill(excluded[masks], -torch.inf)
    logits = torch.cat([positive, negative], dim=1) / temperature
    target = torch.zeros_like(masks)
    if counts is None:
        return F.cross_entropy(logits, target)
    return _weighted_sum(logits, target, weights) / counts.sum()


def reference_loss(
    embeddings: torch.Tensor,
    masks: torch.Tensor,
    prototypes: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
    *,
    exclude_similar: float = 0.0,
    counts: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the weighted cross-entropy of the code published with arXiv:2102.06191.

    Columns are all prototypes of the batch, then the memory bank. A pixel of mask c weighs
    w_c = 1 / ln(1.02 + p_c), p_c being the mask's share of all pixels that take part; the weighted mean is taken.

    Arguments as for `formula_loss`.
    """
    if len(masks) == 0:
        return embeddings.sum() * 0.0
    columns = torch.cat([prototypes, negatives])  # (num_masks + length, dim)
    logits = embeddings @ columns.T / temperature  # (num, num_masks + length)
    if exclude_similar > 0:
        similarity = (prototypes @ columns.T).fill_diagonal_(-torch.inf)  # a mask's own column is no negative
        logits = logits.masked_fill(most_similar(similarity, exclude_similar)[masks], -torch.inf)
    if counts is None:
        share = torch.bincount(masks, minlength=logits.shape[1]).to(logits.dtype) / len(masks)
        return F.cross_entropy(logits, masks, weight=1.0 / torch.log(1.02 + share))
    counts = F.pad(counts, (0, len(negatives))).to(logits.dtype)
    rarity = 1.0 / torch.log(1.02 + counts / counts.sum())
    return _weighted_sum(logits, masks, weights, rarity) / (rarity * counts).sum()


def _weighted_sum(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None, rarity: torch.Tensor | None = None
) -> torch.Tensor:
    """Add the cross-entropies of rows, each times its own weight and that of its target, where there are any."""
    if weights is None:
        return F.cross_entropy(logits, target, weight=rarity, reduction="sum")
    return (F.cross_entropy(logits, target, weight=rarity, reduction="none") * weights).sum()


def most_similar(similarity: torch.Tensor, share: float) -> torch.Tensor:
    """Mark the negatives of each mask that are most similar to its prototype, rounded down in number.

    False negative elimination, Huynh et al. 2022, arXiv:2011.11765, section 3.2.

    Args:
        similarity: (num_masks, num_columns), -inf where a column is no negative of the mask.
        share: in [0, 1), of each mask's negatives.

    Returns:
        bool (num_masks, num_columns).
    """
    num_marked = ((similarity > -torch.inf).sum(1) * share).long()  # (num_masks,)
    rank = similarity.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < num_marked[:, None]
