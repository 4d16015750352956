"""The dice loss of binary masks."""

import torch

from densessl.objectives.focal_loss import check_same_grid


def dice_loss(logits: torch.Tensor, targets: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """Return the dice loss of each mask (Milletari et al., arXiv:1606.04797, section 3).

    With p the probabilities (the logistic function of the logits) and t the targets, summed over pixels,

        L = 1 - (2 sum p t + smooth) / (sum p + sum t + smooth),

    with sums in the place of the paper's sums of squares, and `smooth` 1, as the works that SAM follows (MaskFormer,
    arXiv:2107.06278) compute it.

    Args:
        logits: float (..., height, width); gradient flows.
        targets: bool, or float in [0, 1], of a shape that broadcasts with it; no gradient.
        smooth: pixels that are added to both, so that empty masks have a value; above 0.

    Returns:
        float32 (...), in [0, 1).

    Raises:
        InputError: heights or widths that differ.
    """
    check_same_grid(logits, targets)
    probability, targets = torch.broadcast_tensors(logits.float().sigmoid(), targets.float())
    shared = (probability * targets).sum((-2, -1))
    total = probability.sum((-2, -1)) + targets.sum((-2, -1))
    return 1 - (2 * shared + smooth) / (total + smooth)
