"""The dice loss against the loop over its formula and against segmentation_models_pytorch."""

import pytest
import segmentation_models_pytorch
import torch

from densessl.errors import InputError
from densessl.objectives.dice_loss import dice_loss


def _drawn(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) > 0.6


def test_value_and_gradient_equal_the_loop() -> None:
    logits, target = _drawn((1, 5, 7))
    logits.requires_grad_()
    shared, total = torch.zeros(()), torch.zeros(())
    for value, is_foreground in zip(logits.flatten(), target.flatten().tolist(), strict=True):
        probability = 1 / (1 + torch.exp(-value))
        shared = shared + probability * is_foreground
        total = total + probability + is_foreground
    expected = 1 - (2 * shared + 1) / (total + 1)
    value = dice_loss(logits, target)[0]
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,), (wanted,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    assert torch.allclose(gradient, wanted, atol=1e-6)


@pytest.mark.parametrize("smooth", [1.0, 0.5])
def test_each_mask_equals_segmentation_models_pytorch(smooth: float) -> None:
    """Its `smooth` is added to the intersection, before that is doubled."""
    logits, target = _drawn((3, 6, 4))
    published = segmentation_models_pytorch.losses.DiceLoss("binary", smooth=smooth / 2, eps=0.0)
    for index in range(3):
        alone = published(logits[index][None, None], target[index][None, None].float())
        assert dice_loss(logits, target, smooth)[index].item() == pytest.approx(alone.item(), rel=1e-5)


def test_value_by_hand() -> None:
    target = torch.tensor([[True, False]])
    assert dice_loss(torch.zeros(1, 2), target).item() == pytest.approx(1 - 2 / 3, rel=1e-6)


def test_an_empty_target_asks_for_an_empty_mask() -> None:
    nothing = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert dice_loss(torch.full((1, 4, 4), -30.0), nothing).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(torch.full((1, 4, 4), 30.0), nothing).item() == pytest.approx(16 / 17)


def test_grids_must_agree() -> None:
    with pytest.raises(InputError, match=r"height and width \(4, 4\), the targets \(2, 4\)"):
        dice_loss(torch.zeros(1, 4, 4), torch.zeros(1, 2, 4, dtype=torch.bool))
