"""Work shared among processes: results in order, and a killed process is said."""

import os
import signal

import pytest

from densessl.data import worker_pool
from densessl.data.worker_pool import choose_num_workers, in_order
from densessl.errors import InputError


def square_or_die(number: int) -> int:
    if number == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_order(num_workers: int) -> None:
    assert list(in_order(square_or_die, range(39), num_workers)) == [number**2 for number in range(39)]


def test_a_killed_process_is_said() -> None:
    with pytest.raises(InputError, match="smaller num_workers"):
        list(in_order(square_or_die, range(64), 2))


@pytest.mark.parametrize(("num_images", "expected"), [(10, 0), (100, 0), (200, 2), (1000, 8)])
def test_the_number_is_chosen_by_images_and_cores(
    num_images: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "num_cores", lambda: 8)
    assert choose_num_workers(num_images, 100) == expected
