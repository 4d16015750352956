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


def see_cores(monkeypatch: pytest.MonkeyPatch, process: int, machine: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(process)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)


def test_cores_are_shared_among_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    see_cores(monkeypatch, 8, 8)
    assert cores_per_process() == 8
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert cores_per_process() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores_per_process() == 4


def test_cores_that_srun_has_bound_to_a_process_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    see_cores(monkeypatch, 8, 64)
    assert cores_per_process() == 8
    see_cores(monkeypatch, 64, 64)  # --cpu-bind=none
    assert cores_per_process() == 8


def test_the_cores_of_a_container_are_shared_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    see_cores(monkeypatch, 8, 64)
    assert cores_per_process() == 4
