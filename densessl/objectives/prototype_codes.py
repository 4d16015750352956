"""Clustering into learned prototypes as a further target: each mask's query mean predicts the code of its key mean.

SwAV, Caron et al. 2020, arXiv:2006.09882, here on masks in place of images.
"""

import torch
from torch.nn import functional as F

from densessl.objectives.settings import ObjectiveSettings
from densessl.objectives.whole_batch import WholeBatch


def prototype_loss(
    query: torch.Tensor,
    key: torch.Tensor,
    prototypes: torch.Tensor,
    bank: torch.Tensor,
    settings: ObjectiveSettings,
    processes: WholeBatch | None = None,
    *,
    is_whole: bool = False,
) -> torch.Tensor:
    """Return the mean over masks of the cross-entropy between codes and predictions (SwAV, equation 2, one direction).

    L_m = - sum_k q_mk log softmax_k( z_m . c_k / t )

    z_m is the mask in the query view and q_m the code of the same mask in the key view, from `sinkhorn_codes` over the
    masks of all processes and the rows of `bank`. SwAV swaps two views of one network; here codes come from the key
    network alone, so there is one direction.

    Args:
        query: z (num_masks, dim), unit vectors of the masks that both views show; gradient flows.
        key: (num_masks, dim), unit vectors of the same masks, no gradient.
        prototypes: c (num_prototypes, dim), unit vectors; gradient flows, by way of the predictions alone.
        bank: (length, dim), unit vectors of earlier masks that join the partition and predict nothing (the queue of
            SwAV, section 3.2 and its appendix); the same on all processes.
        settings: `swav_temperature`, `sinkhorn_epsilon`, `sinkhorn_iterations`.
        processes: how the masks of all processes come together; None at one process.
        is_whole: return the mean over the masks of all processes, on each of them.

    Returns:
        Scalar; zero, with gradient zero, where there is no mask.
    """
    prototypes = prototypes.to(query.dtype)
    with torch.no_grad():
        keys, first = (key, 0) if processes is None else processes.gather(key)
        scores = torch.cat([keys, bank.to(keys.dtype)]) @ prototypes.T
        codes = sinkhorn_codes(scores, settings.sinkhorn_epsilon, settings.sinkhorn_iterations)
        own = codes[first : first + len(key)]
    log_predicted = F.log_softmax(query @ prototypes.T / settings.swav_temperature, dim=1)
    total = -(own * log_predicted).sum()
    if processes is None or not is_whole:
        return total / max(len(key), 1)
    return processes.total(total) / max(len(keys), 1)


def sinkhorn_codes(scores: torch.Tensor, epsilon: float, num_iterations: int) -> torch.Tensor:
    """Return soft assignments of rows to prototypes of which each receives the same share (SwAV, equations 3-5).

    Q = diag(u) exp(S / epsilon) diag(v) with u, v such that each row sums to 1 and each column to num / num_prototypes;
    Sinkhorn-Knopp: columns and rows are scaled in turn, rows last, in logarithms, so that no epsilon overflows. Where
    SwAV scales a row to 1 / num and multiplies by num at the end, rows are scaled to 1 here.

    Args:
        scores: S (num, num_prototypes), cosines.
        epsilon: > 0; smaller makes harder codes (SwAV 0.05).
        num_iterations: at least 1 (SwAV 3).

    Returns:
        (num, num_prototypes), rows sum to 1; columns to the same the better the more iterations.
    """
    log_codes = scores / epsilon
    for _ in range(num_iterations):
        log_codes = log_codes - log_codes.logsumexp(0, keepdim=True)
        log_codes = log_codes - log_codes.logsumexp(1, keepdim=True)
    return log_codes.exp()
