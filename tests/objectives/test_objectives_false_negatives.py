"""The estimated share of false negatives: by hand, and its extremes."""

import pytest
import torch
from torch.nn import functional as F

from densessl.objectives.false_negatives import false_negative_share


def _at(*degrees: float) -> torch.Tensor:
    """Unit vectors in the plane at these angles."""
    radians = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def _share(
    embeddings: torch.Tensor, masks: torch.Tensor, prototypes: torch.Tensor, negatives: torch.Tensor
) -> torch.Tensor:
    sums = torch.zeros(len(prototypes), embeddings.shape[1]).index_add(0, masks, embeddings)
    return false_negative_share(sums, prototypes, negatives)


def test_share_by_hand() -> None:
    """Mask 0 lies at 0 degrees and its query prototype at 20, mask 1 at 180 and its own at 170."""
    embeddings, masks = _at(10, 30, 170), torch.tensor([0, 0, 1])
    negatives = _at(19, -21, 181, 90)  # nearer than 20 to mask 0: one; nearer than 10 to mask 1: one
    share = _share(embeddings, masks, _at(0, 180), negatives)
    assert share.item() == pytest.approx(2 / 8)


def test_a_mask_without_rows_does_not_count() -> None:
    share = _share(_at(20), torch.tensor([1]), _at(180, 0), _at(10, 30))
    assert share.item() == pytest.approx(1 / 2)


def test_equals_the_slow_loop_without_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings, prototypes, negatives = (
        F.normalize(torch.randn(num, 5, generator=generator), dim=1) for num in (40, 4, 9)
    )
    masks = torch.randint(4, (40,), generator=generator)
    found = 0
    for mask in range(4):
        own = F.normalize(embeddings[masks == mask].sum(0), dim=0)
        found += sum(float(prototypes[mask] @ row) > float(prototypes[mask] @ own) for row in negatives)
    share = _share(embeddings.requires_grad_(), masks, prototypes, negatives)
    assert share.item() == pytest.approx(found / 36)
    assert not share.requires_grad


def test_nothing_to_compare_is_no_false_negative() -> None:
    none = torch.zeros(0, 2)
    assert _share(none, torch.zeros(0, dtype=torch.int64), _at(0), _at(1)).item() == 0.0
    assert _share(_at(0), torch.tensor([0]), _at(0), none).item() == 0.0
    assert _share(none, torch.zeros(0, dtype=torch.int64), none, _at(1)).item() == 0.0
