"""The saliency head's loss: binary cross-entropy, balanced between foreground and background."""

import torch
from torch.nn import functional as F

from densessl.errors import InputError


def balanced_saliency_loss(
    logits: torch.Tensor, target: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the class-balanced binary cross-entropy of the published MaskContrast code.

    With n pixels, n_pos of them foreground and n_neg background, and l_i the cross-entropy of pixel i:

        L = ( n_neg / n * sum_{i in foreground} l_i + n_pos / n * sum_{i in background} l_i ) / n

    Args:
        logits: any shape, float; gradient flows.
        target: same shape, bool, True for foreground.
        counts: int64 (2,), n_pos and n of the whole batch, where these pixels are only a part of it; the result is
            then the part's share: over all parts they add up to the loss of the whole batch.

    Raises:
        InputError: shapes differ.
    """
    if logits.shape != target.shape:
        raise InputError(f"saliency logits have shape {tuple(logits.shape)}, the target {tuple(target.shape)}")
    positive_share = target.float().mean() if counts is None else counts[0] / counts[1]
    weight = torch.where(target, 1.0 - positive_share, positive_share)
    losses = weight * F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    return losses.mean() if counts is None else losses.sum() / counts[1]
