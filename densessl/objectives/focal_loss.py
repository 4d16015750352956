"""The focal loss of binary masks."""

import torch
from torch.nn import functional as F

from densessl.errors import InputError


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Return the mean focal loss of each mask (Lin et al., arXiv:1708.02002, equation 5).

    With p the probability that a pixel is foreground (the logistic function of its logit) and t its target in {0, 1},

        L = mean over pixels of -alpha_t (1 - p_t) ** gamma log(p_t),

    where p_t = p and alpha_t = alpha for t = 1, and p_t = 1 - p and alpha_t = 1 - alpha for t = 0.

    Args:
        logits: float (..., height, width); gradient flows.
        targets: bool, or float in [0, 1], of a shape that broadcasts with it; no gradient.
        alpha: weight of the foreground, in [0, 1].
        gamma: how much well-classified pixels are weighed down, at least 0.

    Returns:
        float32 (...), in nats.

    Raises:
        InputError: heights or widths that differ.
    """
    check_same_grid(logits, targets)
    logits, targets = torch.broadcast_tensors(logits.float(), targets.float())
    probability = logits.sigmoid()
    of_target = probability * targets + (1 - probability) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weight * (1 - of_target) ** gamma * entropy).mean((-2, -1))


def check_same_grid(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise `InputError` for masks of another height or width than their targets."""
    if logits.shape[-2:] != targets.shape[-2:]:
        raise InputError(
            f"mask logits have height and width {tuple(logits.shape[-2:])}, the targets {tuple(targets.shape[-2:])}; "
            "bring both to one grid"
        )
