"""The class-balanced saliency loss against the loop over its formula."""

import math

import pytest
import torch

from densessl.errors import InputError
from densessl.objectives.saliency_loss import balanced_saliency_loss


def _loop(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    values, is_foreground = logits.flatten(), target.flatten().tolist()
    num, num_positive = len(is_foreground), sum(is_foreground)
    num_negative = num - num_positive
    total = torch.zeros((), dtype=logits.dtype)
    for value, positive in zip(values, is_foreground, strict=True):
        probability = 1 / (1 + torch.exp(-value))
        if positive:
            total = total - num_negative / num * torch.log(probability)
        else:
            total = total - num_positive / num * torch.log(1 - probability)
    return total / num


@pytest.mark.parametrize("shape", [(2, 1, 5, 7), (1, 1, 1, 2), (12,)])
def test_value_and_gradient_equal_the_loop(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator, requires_grad=True)
    target = torch.rand(shape, generator=generator) > 0.7
    target.view(-1)[0] = True
    value, expected = balanced_saliency_loss(logits, target), _loop(logits, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,), (expected_gradient,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    assert torch.allclose(gradient, expected_gradient, atol=1e-6)


def test_value_by_hand() -> None:
    target = torch.tensor([True, False, False, False])
    expected = (3 / 4 * math.log(2) + 1 / 4 * 3 * math.log(2)) / 4
    assert balanced_saliency_loss(torch.zeros(4), target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("is_foreground", [True, False])
def test_one_class_alone_teaches_nothing(is_foreground: bool) -> None:
    logits = torch.randn(2, 1, 3, 3, requires_grad=True)
    value = balanced_saliency_loss(logits, torch.full((2, 1, 3, 3), is_foreground))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_large_logits_stay_finite() -> None:
    value = balanced_saliency_loss(torch.tensor([-1e4, 1e4]), torch.tensor([True, False]))
    assert value.item() == pytest.approx(5e3)


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 1, 4, 4\), the target \(2, 4, 4\)"):
        balanced_saliency_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))


def test_parts_add_up_to_the_whole_batch() -> None:
    logits = torch.randn(5, 1, 4, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.rand(5, 1, 4, 6, generator=torch.Generator().manual_seed(1)) > torch.arange(5).view(5, 1, 1, 1) / 5
    counts = torch.tensor([int(target.sum()), target.numel()])
    parts = [balanced_saliency_loss(logits[rows], target[rows], counts) for rows in (slice(0, 2), slice(2, 5))]
    value = balanced_saliency_loss(logits, target)
    assert sum(parts).item() == pytest.approx(value.item(), rel=1e-6)
    (gradient,), (expected,) = torch.autograd.grad(sum(parts), logits), torch.autograd.grad(value, logits)
    assert torch.allclose(gradient, expected, atol=1e-8)
