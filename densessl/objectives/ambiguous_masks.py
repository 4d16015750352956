"""Which of several predicted masks learns from which target, for prompts that several objects answer."""

from itertools import permutations
from typing import NamedTuple

import torch

from densessl.errors import InputError
from densessl.objectives.dice_loss import dice_loss
from densessl.objectives.focal_loss import focal_loss


class MatchedLoss(NamedTuple):
    """loss: float (num_prompts,), with gradient. output: int64 (num_prompts, num_targets), the mask that learns from
    each target; -1 where there is no target.
    """

    loss: torch.Tensor
    output: torch.Tensor


def pairwise_mask_loss(
    logits: torch.Tensor, targets: torch.Tensor, focal_weight: float = 20.0, dice_weight: float = 1.0
) -> torch.Tensor:
    """Return focal_weight * focal + dice_weight * dice of every mask with every target of its prompt.

    The weights default to SAM's 20 : 1 (arXiv:2304.02643, section 3).

    Args:
        logits: float (num_prompts, num_masks, height, width); gradient flows.
        targets: bool (num_prompts, num_targets, height, width).

    Returns:
        float32 (num_prompts, num_masks, num_targets).
    """
    masks, objects = logits[:, :, None], targets[:, None]
    return focal_weight * focal_loss(masks, objects) + dice_weight * dice_loss(masks, objects)


def best_mask_loss(losses: torch.Tensor, is_target: torch.Tensor) -> MatchedLoss:
    """Return the loss of the masks that fit the targets best, one mask for each target.

    Of all ways to give each of a prompt's targets a mask of its own, the one of the lowest total counts; the loss is
    the mean over the prompt's targets, and no gradient reaches the other masks. With a single target that is the lowest
    loss of the masks, as published (SAM, arXiv:2304.02643, section 3, Resolving ambiguity).

    Args:
        losses: float (num_prompts, num_masks, num_targets), of every mask with every target.
        is_target: bool (num_prompts, num_targets), which targets there are; at least one for each prompt.

    Raises:
        InputError: more targets than masks, or a prompt without target.
    """
    _, num_masks, num_targets = losses.shape
    if num_targets > num_masks:
        raise InputError(f"{num_targets} targets cannot have masks of their own among {num_masks}; give fewer targets")
    if not bool(is_target.any(dim=1).all()):
        raise InputError("a prompt has no target; give each at least one, or leave it out")
    ways = torch.tensor(list(permutations(range(num_masks), num_targets)), device=losses.device)  # (ways, targets)
    columns = torch.arange(num_targets, device=losses.device)
    chosen = losses[:, ways, columns]  # (num_prompts, ways, num_targets)
    totals = torch.where(is_target[:, None], chosen, 0.0).sum(2)
    lowest = totals.argmin(dim=1)
    loss = totals.gather(1, lowest[:, None])[:, 0] / is_target.sum(1)
    return MatchedLoss(loss, torch.where(is_target, ways[lowest], -1))
