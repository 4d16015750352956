"""Masks are matched with targets as a search through all assignments finds; only the matched ones learn."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from densessl.errors import InputError
from densessl.objectives.ambiguous_masks import best_mask_loss, pairwise_mask_loss
from densessl.objectives.dice_loss import dice_loss
from densessl.objectives.focal_loss import focal_loss


def _losses(num_prompts: int, num_masks: int, num_targets: int) -> torch.Tensor:
    return torch.rand(num_prompts, num_masks, num_targets, generator=torch.Generator().manual_seed(0))


def test_pairs_are_the_losses_of_each_mask_with_each_target() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    targets = torch.rand(2, 2, 4, 5, generator=generator) > 0.5
    pairs = pairwise_mask_loss(logits, targets)
    for prompt in range(2):
        for mask in range(3):
            for target in range(2):
                one = (logits[prompt, mask], targets[prompt, target])
                torch.testing.assert_close(pairs[prompt, mask, target], 20 * focal_loss(*one) + dice_loss(*one))


def test_one_target_takes_the_lowest_loss_and_the_other_masks_learn_nothing() -> None:
    losses = _losses(5, 3, 1).requires_grad_()
    matched = best_mask_loss(losses, torch.ones(5, 1, dtype=torch.bool))
    torch.testing.assert_close(matched.loss, losses[:, :, 0].min(1).values)
    assert torch.equal(matched.output[:, 0], losses[:, :, 0].argmin(1))
    matched.loss.sum().backward()
    assert losses.grad is not None
    assert losses.grad.sum((1, 2)).tolist() == [1.0] * 5
    assert int((losses.grad != 0).sum()) == 5


@pytest.mark.parametrize("num_targets", [1, 2, 3])
def test_several_targets_are_matched_as_scipy_matches_them(num_targets: int) -> None:
    losses = _losses(20, 4, 3)
    is_target = torch.arange(3) < num_targets
    matched = best_mask_loss(losses, is_target.expand(20, 3))
    for prompt in range(20):
        rows, columns = linear_sum_assignment(losses[prompt, :, :num_targets])
        assert matched.loss[prompt].item() == pytest.approx(losses[prompt, rows, columns].mean().item())
        wanted = {int(column): int(row) for row, column in zip(rows, columns, strict=True)}
        found = matched.output[prompt].tolist()
        assert found == [wanted.get(target, -1) for target in range(3)]


def test_targets_that_are_not_there_change_nothing() -> None:
    losses = _losses(4, 3, 3)
    spoilt = losses.clone()
    spoilt[:, :, 1] = float("nan")
    present = torch.tensor([True, False, True]).expand(4, 3)
    assert torch.equal(best_mask_loss(spoilt, present).loss, best_mask_loss(losses, present).loss)


def test_more_targets_than_masks_and_none_are_told() -> None:
    with pytest.raises(InputError, match="3 targets cannot have masks of their own among 2"):
        best_mask_loss(_losses(1, 2, 3), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="a prompt has no target"):
        best_mask_loss(_losses(2, 3, 1), torch.tensor([[True], [False]]))
