"""The losses of single rows: by hand, and their means are the losses of training."""

import math

import pytest
import torch
from torch.nn import functional as F

from densessl.objectives.contrastive_losses import formula_loss, reference_loss
from densessl.objectives.row_losses import row_losses


def _unit(num: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(num, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


@pytest.mark.parametrize("exclude_similar", [0.0, 0.4])
def test_means_are_the_losses_of_training(exclude_similar: float) -> None:
    embeddings, prototypes, negatives = _unit(30, 0), _unit(4, 1), _unit(9, 2)
    masks = torch.randint(4, (30,), generator=torch.Generator().manual_seed(3))
    arguments = (embeddings, masks, prototypes, negatives, 0.3)
    formula = row_losses(*arguments, mode="formula", exclude_similar=exclude_similar)
    assert formula.mean().item() == pytest.approx(formula_loss(*arguments, exclude_similar=exclude_similar).item())
    reference = row_losses(*arguments, mode="reference", exclude_similar=exclude_similar)
    weights = 1 / torch.log(1.02 + torch.bincount(masks, minlength=4) / 30)[masks]
    expected = reference_loss(*arguments, exclude_similar=exclude_similar).item()
    assert ((reference * weights).sum() / weights.sum()).item() == pytest.approx(expected)


def test_chance_by_hand() -> None:
    same = torch.tensor([[1.0, 0.0]])
    losses = row_losses(same, torch.tensor([0]), same, same.repeat(7, 1), 0.5, mode="formula")
    assert losses.tolist() == pytest.approx([math.log(8)])


def test_no_rows_and_no_negatives() -> None:
    prototypes, first = _unit(1, 0), torch.tensor([0])
    assert row_losses(_unit(0, 1), first[:0], prototypes, _unit(3, 2), 1, mode="formula").shape == (0,)
    assert row_losses(prototypes, first, prototypes, _unit(0, 2), 1, mode="reference").item() == 0.0
