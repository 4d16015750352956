import os

import pytest
import torch

from densessl.machine import loader_processes, num_cores


def test_a_process_that_is_bound_to_cores_counts_those(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert num_cores() == 3


@pytest.mark.parametrize(("count", "expected"), [(8, 8), (None, 1)])
def test_a_system_without_bindings_counts_all_cores(
    count: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert num_cores() == expected


@pytest.mark.parametrize(
    ("asked", "most", "threads", "expected"), [(-1, 2, 8, 2), (-1, 4, 3, 3), (0, 2, 8, 0), (7, 2, 1, 7)]
)
def test_loader_processes(asked: int, most: int, threads: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert loader_processes(asked, most) == expected
