"""The focal loss against the loop over its formula and against torchvision."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from densessl.errors import InputError
from densessl.objectives.focal_loss import focal_loss


def _drawn(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) > 0.6


def _loop(logits: torch.Tensor, target: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    total = torch.zeros((), dtype=logits.dtype)
    for value, is_foreground in zip(logits.flatten(), target.flatten().tolist(), strict=True):
        probability = 1 / (1 + torch.exp(-value))
        of_target, weight = (probability, alpha) if is_foreground else (1 - probability, 1 - alpha)
        total = total - weight * (1 - of_target) ** gamma * torch.log(of_target)
    return total / target.numel()


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.0)])
def test_value_and_gradient_equal_the_loop(alpha: float, gamma: float) -> None:
    logits, target = _drawn((1, 5, 7))
    logits.requires_grad_()
    value, expected = focal_loss(logits, target, alpha, gamma)[0], _loop(logits, target, alpha, gamma)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,), (wanted,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    assert torch.allclose(gradient, wanted, atol=1e-6)


def test_each_mask_equals_torchvision() -> None:
    logits, target = _drawn((2, 3, 6, 4))
    published = sigmoid_focal_loss(logits, target.float(), alpha=0.25, gamma=2.0).mean((-2, -1))
    torch.testing.assert_close(focal_loss(logits, target), published)


def test_value_by_hand() -> None:
    """At logit 0 every pixel has probability one half."""
    target = torch.tensor([[True, False], [False, False]])
    expected = (0.25 + 3 * 0.75) / 4 * 0.25 * math.log(2)
    assert focal_loss(torch.zeros(2, 2), target).item() == pytest.approx(expected, rel=1e-6)


def test_targets_broadcast_and_large_logits_stay_finite() -> None:
    logits, target = _drawn((2, 3, 4, 5))
    one_by_one = torch.stack([focal_loss(logits[:, index], target[:, 0]) for index in range(3)], dim=1)
    torch.testing.assert_close(focal_loss(logits, target[:, :1]), one_by_one)
    assert focal_loss(torch.tensor([[1e4, -1e4]]), torch.tensor([[False, True]])).isfinite()


def test_grids_must_agree() -> None:
    with pytest.raises(InputError, match=r"height and width \(4, 4\), the targets \(4, 5\)"):
        focal_loss(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.bool))
