"""The contrastive loss of single rows, to be looked at; training takes their (weighted) mean."""

from typing import Literal

import torch

from densessl.objectives.contrastive_losses import most_similar


@torch.no_grad()
def row_losses(
    embeddings: torch.Tensor,
    masks: torch.Tensor,
    prototypes: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
    *,
    mode: Literal["reference", "formula"],
    exclude_similar: float = 0.0,
) -> torch.Tensor:
    """Return L_i = -log( exp(z_i . p_{M(i)} / t) / sum_c exp(z_i . c / t) ) of every row (arXiv:2102.06191, eq. 3).

    The columns c are the row's own positive and the negatives and, in `reference` mode, the other prototypes too. The
    mean is `formula_loss`; weighted by the rarity of the masks it is `reference_loss`.

    Args:
        embeddings: z (num, dim), unit vectors.
        masks: M (num,), row of `prototypes` that is each one's positive.
        prototypes: p (num_masks, dim), unit vectors.
        negatives: (length, dim), the memory bank.
        temperature: t > 0.
        mode: which columns there are.
        exclude_similar: share of each mask's negatives that is left out, as in training.

    Returns:
        (num,), nats; ln(number of columns) where a row is equally similar to all of them.
    """
    columns = torch.cat([prototypes, negatives])  # (num_masks + length, dim)
    own = torch.eye(len(prototypes), len(columns), dtype=torch.bool, device=columns.device)
    is_negative = ~own
    if mode == "formula":
        is_negative[:, : len(prototypes)] = False
    if exclude_similar > 0:
        similarity = (prototypes @ columns.T).masked_fill(~is_negative, -torch.inf)
        is_negative &= ~most_similar(similarity, exclude_similar)
    logits = (embeddings @ columns.T / temperature).masked_fill(~(own | is_negative)[masks], -torch.inf)
    return logits.logsumexp(1) - logits.gather(1, masks[:, None]).squeeze(1)
