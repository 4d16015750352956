"""Shards by flag and by the variables of torchrun and srun."""

import os

import pytest

from densessl.commands.shards import choose_shard, cores_per_process
from densessl.errors import InputError
from densessl.saliency.generation import Shard

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_by_flag() -> None:
    assert choose_shard("2/4") == Shard(1, 4)
    assert choose_shard("1/1") == choose_shard("auto") == Shard(0, 1)


@pytest.mark.parametrize("text", ["", "2", "2/", "a/b", "-1/4", "1/2/3", "1 / 2"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(InputError, match="write it like 2/4, the second of four, or auto"):
        choose_shard(text)


@pytest.mark.parametrize("text", ["0/4", "5/4", "0/0"])
def test_parts_that_do_not_exist(text: str) -> None:
    with pytest.raises(InputError, match=f"shard {text} does not exist"):
        choose_shard(text)


@pytest.mark.parametrize("names", [VARIABLES[:2], VARIABLES[3:5]])
def test_by_launcher(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(names, ("3", "8"), strict=True):
        monkeypatch.setenv(name, value)
    assert choose_shard("auto") == Shard(3, 8)
    assert choose_shard("1/2") == Shard(0, 2)


def test_cores_are_shared_among_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores_per_process() == 8
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert cores_per_process() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores_per_process() == 4
