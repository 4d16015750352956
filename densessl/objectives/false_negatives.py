"""How many negatives probably show the same thing as the positive, estimated without labels."""

import torch
from torch.nn import functional as F


@torch.no_grad()
def false_negative_share(sums: torch.Tensor, prototypes: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """Return the share of (mask, negative) pairs in which the negative is nearer to the positive than the mask itself.

    share = mean over masks m and negatives k of [ p_m . n_k > p_m . q_m ], where p_m is the mask's key prototype (its
    positive) and q_m = sum_{i in m} z_i / |sum_{i in m} z_i| its query prototype. A negative that agrees with the
    positive better than another view of the same object does cannot be told from it. That similarity to the positive
    marks false negatives is from Huynh et al. 2022, arXiv:2011.11765, section 3.2; the threshold, each mask's own
    agreement between views, is ours. It is an estimate from below where the two views agree almost perfectly, and the
    random vectors that a memory bank starts with count as true negatives.

    Args:
        sums: sum_{i in m} z_i (num_masks, dim) of the unit vectors of each mask in the query view, pixels or the whole;
            masks whose sum is zero have none there and do not count.
        prototypes: p (num_masks, dim), unit vectors.
        negatives: n (length, dim), the memory bank.

    Returns:
        Scalar in [0, 1]; 0 without rows or negatives.
    """
    if len(prototypes) == 0 or len(negatives) == 0:
        return prototypes.new_zeros(())
    has_rows = (sums != 0).any(1).float()  # (num_masks,), 0 or 1
    agreement = (prototypes * F.normalize(sums, dim=1)).sum(1, keepdim=True)  # (num_masks, 1)
    share = (prototypes @ negatives.T > agreement).float().mean(1)  # (num_masks,)
    return (share * has_rows).sum() / has_rows.sum().clamp_min(1.0)
