"""Diagnostics: extremes, values by hand, and the age of a real queue."""

import pytest
import torch

from densessl.objectives.memory_bank import MemoryBank
from densessl.training.diagnostics import (
    count_masks,
    effective_rank,
    embedding_spread,
    peak_memory_mib,
    queue_age,
)


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


@pytest.mark.parametrize("length", [1, 5, 7, 12])
@pytest.mark.parametrize("batch", [1, 3, 9])
def test_the_age_of_the_queue_is_that_of_its_rows(length: int, batch: int) -> None:
    """Rows that hold the step in which they were enqueued tell their age."""
    bank = MemoryBank(length, 1)
    for step in range(1, 8):
        bank.enqueue(torch.full((batch, 1), float(step)))
        num_real = min(length, step * batch)
        newest_last = torch.cat([bank.prototypes[int(bank.pointer) :], bank.prototypes[: int(bank.pointer)]])
        ages = step + 1 - newest_last[-num_real:]
        assert queue_age(int(bank.num_enqueued), length, step) == pytest.approx(float(ages.mean()))


def test_a_queue_without_rows_has_no_age() -> None:
    assert queue_age(0, 5, 3) == 0.0
    assert queue_age(9, 0, 3) == 0.0


def test_masks_of_both_views_and_of_one() -> None:
    query = torch.tensor([[[1, 1], [2, 0]], [[0, 0], [0, 1]]])
    key = torch.tensor([[[0, 2], [0, 4]], [[1, 0], [0, 0]]])  # mask 3 of the first image is in neither view
    assert count_masks(query, key) == (2, 2)
    assert count_masks(query * 0, key * 0) == (0, 0)


def test_memory_of_this_process() -> None:
    memory = peak_memory_mib(torch.device("cpu"))
    assert memory is None or 20 < memory < 200_000
