"""The saliency head's loss: binary cross-entropy, balanced between foreground and background."""

import torch
from torch.nn import functional as F

from densessl.errors import InputError


def balanced_saliency_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the class-balanced binary cross-entropy of the published MaskContrast code.

    With n pixels, n_pos of them foreground and n_neg background, and l_i the cross-entropy of pixel i:

        L = ( n_neg / n * sum_{i in foreground} l_i + n_pos / n * sum_{i in background} l_i ) / n

    Args:
        logits: any shape, float; gradient flows.
        target: same shape, bool, True for foreground.

    Raises:
        InputError: shapes differ.
    """
    if logits.shape != target.shape:
        raise InputError(f"saliency logits have shape {tuple(logits.shape)}, the target {tuple(target.shape)}")
    positive_share = target.float().mean()
    weight = torch.where(target, 1.0 - positive_share, positive_share)
    return (weight * F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")).mean()
