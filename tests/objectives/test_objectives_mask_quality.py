"""True IoU against a loop over pixels, and the squared error of a predicted one."""

import pytest
import torch

from densessl.errors import InputError
from densessl.objectives.mask_quality import iou_error, mask_iou


def test_iou_equals_the_loop_over_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator)
    targets = torch.rand(2, 1, 5, 4, generator=generator) > 0.5
    for prompt in range(2):
        for mask in range(3):
            shared = either = 0
            for value, is_foreground in zip(logits[prompt, mask].flatten(), targets[prompt, 0].flatten(), strict=True):
                shared += bool(value > 0) and bool(is_foreground)
                either += bool(value > 0) or bool(is_foreground)
            assert mask_iou(logits, targets)[prompt, mask].item() == pytest.approx(shared / either)


def test_two_empty_masks_have_no_overlap() -> None:
    assert mask_iou(torch.full((1, 3, 3), -1.0), torch.zeros(1, 3, 3, dtype=torch.bool)).item() == 0


def test_error_by_hand_and_its_gradient() -> None:
    predicted = torch.tensor([0.5, 1.5], requires_grad=True)
    true = torch.tensor([1.0, 0.5], requires_grad=True)
    error = iou_error(predicted, true)
    assert error.tolist() == [0.25, 1.0]
    error.sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [-1.0, 2.0]
    assert true.grad is None


def test_grids_must_agree() -> None:
    with pytest.raises(InputError, match="bring both to one grid"):
        mask_iou(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.bool))
