"""The profile of a training step: a table of stages and operations, written once, only where it is asked for."""

from pathlib import Path

import torch

from densessl.training.step_profile import StepProfile, stage, waiting


def _steps(profile: StepProfile, num: int) -> list[str]:
    tables = []
    for number in range(num):
        with stage("query forward"):
            torch.randn(64, 64) @ torch.randn(64, 64)
        with stage("backward"):
            torch.randn(8).exp()
        table = profile.stepped(is_last=number == num - 1)
        if table is not None:
            tables.append(table)
    return tables


def test_the_table_names_stages_and_operations(tmp_path: Path) -> None:
    (table,) = _steps(StepProfile(tmp_path, torch.device("cpu"), is_enabled=True), 14)
    assert (tmp_path / "profile.txt").read_text() == table
    assert table.startswith("8 steps on cpu, milliseconds a step\n")
    lines = {line.split("  ")[0]: line for line in table.splitlines()}
    assert {"query forward", "backward", "aten::mm"} <= lines.keys()
    assert "memory bank" not in lines
    shares = [float(lines[name].split()[-1].rstrip("%")) for name in ("query forward", "backward")]
    assert 99 < sum(shares) < 101
    assert lines["aten::mm"].split()[-1] == "1"


def test_a_short_run_is_profiled_to_its_end(tmp_path: Path) -> None:
    (table,) = _steps(StepProfile(tmp_path, torch.device("cpu"), is_enabled=True), 5)
    assert table.startswith("2 steps")


def test_a_run_of_three_steps_says_why_it_has_no_table(tmp_path: Path) -> None:
    (text,) = _steps(StepProfile(tmp_path, torch.device("cpu"), is_enabled=True), 3)
    assert text.startswith("no profile: 3 steps were left and the first 3 are not counted")
    assert not list(tmp_path.iterdir())


def test_nothing_is_profiled_unasked(tmp_path: Path) -> None:
    assert _steps(StepProfile(tmp_path, torch.device("cpu"), is_enabled=False), 14) == []
    assert not list(tmp_path.iterdir())


def test_waiting_passes_items_on() -> None:
    assert list(waiting(iter([1, 2, 3]))) == [1, 2, 3]
