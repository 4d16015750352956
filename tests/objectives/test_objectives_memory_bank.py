"""The memory bank: order, wrap-around, any length, unit vectors, a complete state."""

import pytest
import torch
from torch.nn import functional as F

from densessl.errors import InputError
from densessl.objectives.memory_bank import MemoryBank


def _rows(first: int, num: int) -> torch.Tensor:
    """Rows that tell their own number: (number, 0, 0)."""
    return torch.stack([torch.tensor([float(first + i), 0.0, 0.0]) for i in range(num)]) if num else torch.zeros(0, 3)


def _numbers(bank: MemoryBank) -> list[int]:
    return [int(row[0]) for row in bank.prototypes]


def test_oldest_rows_go_first() -> None:
    bank = MemoryBank(4, 3)
    bank.enqueue(_rows(1, 3))
    assert _numbers(bank)[:3] == [1, 2, 3]
    bank.enqueue(_rows(4, 3))  # wraps around
    assert _numbers(bank) == [5, 6, 3, 4]
    assert int(bank.pointer) == 2
    assert int(bank.num_enqueued) == 6


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8])
def test_the_bank_holds_the_last_rows_whatever_length_and_batch(length: int, batch: int) -> None:
    bank, seen = MemoryBank(length, 3), 0
    for _ in range(5):
        bank.enqueue(_rows(1 + seen, batch))
        seen += batch
        assert set(range(max(1, seen - length + 1), seen + 1)) <= set(_numbers(bank))
    if seen < length:
        return
    assert sorted(_numbers(bank)) == list(range(seen - length + 1, seen + 1))
    oldest_first = _numbers(bank)[int(bank.pointer) :] + _numbers(bank)[: int(bank.pointer)]
    assert oldest_first == sorted(oldest_first)


def test_nothing_to_enqueue_and_nowhere_to_put_it() -> None:
    bank = MemoryBank(2, 3)
    before = bank.prototypes.clone()
    bank.enqueue(_rows(0, 0))
    assert torch.equal(bank.prototypes, before)
    empty = MemoryBank(0, 3)
    empty.enqueue(_rows(1, 4))
    assert empty.prototypes.shape == (0, 3)
    assert empty.length == 0


def test_starts_with_random_unit_vectors_of_the_generator() -> None:
    first, second = (MemoryBank(16, 8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.prototypes, second.prototypes)
    assert torch.allclose(first.prototypes.norm(dim=1), torch.ones(16))
    assert not torch.equal(MemoryBank(16, 8, torch.Generator().manual_seed(4)).prototypes, first.prototypes)


def test_is_filled_once_no_random_row_is_left() -> None:
    bank = MemoryBank(3, 3)
    filled = [bank.is_filled]
    for first in (1, 3):
        bank.enqueue(_rows(first, 2))
        filled.append(bank.is_filled)
    assert filled == [False, False, True]
    assert MemoryBank(0, 3).is_filled


def test_enqueued_rows_stay_unit_vectors_without_gradient() -> None:
    bank = MemoryBank(4, 3)
    bank.enqueue(F.normalize(torch.randn(6, 3, requires_grad=True), dim=1).half())
    assert bank.prototypes.dtype == torch.float32
    assert not bank.prototypes.requires_grad
    assert torch.allclose(bank.prototypes.norm(dim=1), torch.ones(4), atol=1e-3)


def test_the_state_is_complete() -> None:
    bank, other = MemoryBank(3, 3), MemoryBank(3, 3)
    bank.enqueue(_rows(1, 4))
    assert set(bank.state_dict()) == {"prototypes", "pointer", "num_enqueued"}
    other.load_state_dict(bank.state_dict())
    for each in (bank, other):
        each.enqueue(_rows(5, 1))
    assert _numbers(bank) == _numbers(other) == [4, 5, 3]


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"length -1 and dimension 3; length must be >= 0"):
        MemoryBank(-1, 3)
    with pytest.raises(InputError, match=r"shape \(2, 4\); the memory bank takes \(num, 3\)"):
        MemoryBank(4, 3).enqueue(torch.zeros(2, 4))
