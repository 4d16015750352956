"""The run log: lines, alarms, resumption without duplicates, a line cut off by a kill."""

import errno
import json
import math
import os
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.alarms import AlarmWatch
from densessl.training.run_log import RunLog, last_logged_loss, read_metrics
from densessl.training.settings import TrainingSettings


def _write(run: Path, steps: range, first_step: int = 0, **options: bool) -> None:
    with RunLog(run, 10, first_step, **options) as log:
        for step in steps:
            log.advance(step)
            log.write({"step": step, "epoch": 0, "loss": 1.0 / step, "images_per_second": 10.0})


def test_lines_come_back_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, range(1, 4))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert read_metrics(tmp_path)[1]["loss"] == 0.5
    assert list((tmp_path / "tensorboard").iterdir())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "step 2  epoch 0  loss 0.500  10.0 images/s" in captured.err


def test_resuming_drops_the_lines_that_are_done_again(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 6))
    _write(tmp_path, range(3, 7), first_step=2)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    _write(tmp_path, range(1, 2), first_step=0)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]


def test_tensorboard_keeps_the_line_of_the_checkpoint(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 6))
    time.sleep(1.05)  # TensorBoard reads files by name, in which a second and then a number without zeros stand
    _write(tmp_path, range(3, 7), first_step=2)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_a_line_cut_off_is_left_out_and_mended_on_resume(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 3))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    _write(tmp_path, range(3, 4), first_step=2)
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("method", ["add_scalar", "close"])
def test_a_full_disk_is_said_once_by_whatever_write_meets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """TensorBoard raises what its thread met at its next call."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SummaryWriter, method, full)
    message = r"cannot write to .* \(No space left on device\); free some space"
    with pytest.raises(InputError, match=message):
        _write(tmp_path, range(1, 3))


def test_closing_on_a_full_disk_does_not_hide_the_error_that_ended_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SummaryWriter, "close", full)
    with pytest.raises(InputError, match="the loss became nan"), RunLog(tmp_path, 10, 0):
        raise InputError("the loss became nan")


def test_the_last_logged_loss(tmp_path: Path) -> None:
    assert math.isnan(last_logged_loss(tmp_path))
    _write(tmp_path, range(1, 5))
    assert last_logged_loss(tmp_path) == 0.25


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    _write(tmp_path, range(1, 3), is_shown=False)
    assert list(tmp_path.iterdir()) == []
    assert read_metrics(tmp_path) == []


def test_alarms_are_printed_and_kept_once_also_when_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(steps: range, first_step: int) -> str:
        watch = AlarmWatch(TrainingSettings(), ObjectiveSettings(), ViewSettings(), 10)
        with RunLog(tmp_path, 10, first_step, watch) as log:
            for step in steps:
                log.write({"step": step, "epoch": 0, "loss": 1.0, "images_per_second": 10.0, "data_wait": 0.9})
        return capsys.readouterr().err

    def kept() -> list[int]:
        return [json.loads(line)["step"] for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]

    assert write(range(1, 6), 0).count("alarm after step 3: training waits for data 90% of the time") == 1
    assert kept() == [3]
    assert "alarm" not in write(range(5, 7), 4)  # it began before the checkpoint
    assert kept() == [3]
    assert "alarm after step 3" in write(range(3, 5), 2)  # it began after it
    assert kept() == [3]
