"""What the head that predicts the quality of masks learns: their true IoU, and its squared error."""

import torch

from densessl.objectives.focal_loss import check_same_grid


def mask_iou(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the IoU of the masks `logits > 0` with their targets; 0 where both are empty. No gradient.

    Args:
        logits: float (..., height, width).
        targets: bool, of a shape that broadcasts with it.

    Returns:
        float32 (...), in [0, 1].

    Raises:
        InputError: heights or widths that differ.
    """
    check_same_grid(logits, targets)
    masks = logits.detach() > 0
    shared, either = (masks & targets).sum((-2, -1)), (masks | targets).sum((-2, -1))
    return shared / either.clamp_min(1)


def iou_error(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Return the squared error of predicted IoU, (predicted - true)^2, of any shape.

    SAM, arXiv:2304.02643, appendix A. Gradient flows to `predicted` alone.
    """
    return (predicted.float() - true.detach().float()) ** 2
