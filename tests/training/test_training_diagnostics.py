"""Diagnostics of embeddings: their extremes, and values by hand."""

import pytest
import torch

from densessl.training.diagnostics import effective_rank, embedding_spread


def test_spread_is_1_on_the_sphere_and_0_at_a_point() -> None:
    vectors = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert embedding_spread(vectors) == pytest.approx(1.0, abs=0.02)
    assert embedding_spread(7 * vectors) == pytest.approx(embedding_spread(vectors), rel=1e-5)
    assert embedding_spread(torch.ones(10, 16)) == pytest.approx(0.0, abs=1e-6)
    assert embedding_spread(torch.ones(1, 16)) == 0.0


def test_effective_rank_by_hand() -> None:
    assert effective_rank(torch.eye(5)) == pytest.approx(5.0, rel=1e-5)
    assert effective_rank(torch.ones(6, 3)) == pytest.approx(1.0, abs=1e-3)
    # singular values 3 and 1: entropy of (3/4, 1/4)
    entropy = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log())
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(entropy.exp().item(), rel=1e-5)
    assert effective_rank(torch.zeros(0, 3)) == 0.0
    assert torch.isfinite(torch.tensor(effective_rank(torch.zeros(4, 3))))
