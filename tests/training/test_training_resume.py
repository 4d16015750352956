"""Exact continuation: after kills at any moment, on a full disk, and with another number of processes."""

import errno
import os
import random
import resource
import signal
import time
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from forked import run_processes, start
from safetensors.torch import load_file
from tiny_training import changed, draw_images, numbers, train

from densessl import files
from densessl.errors import InputError
from densessl.files import read_json, remove_abandoned_writes
from densessl.training import training_loop
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.run_log import read_metrics

OFTEN = changed(training={"checkpoint_every": 2, "keep_checkpoints": 2})
"""Two steps an epoch, a checkpoint after each epoch."""


def _train(root: Path, run: Path, resume: bool) -> None:
    train(root, run, OFTEN, resume=resume)


def _train_slowly(root: Path, run: Path, settings: PretrainSettings) -> None:
    """Go on with a run, lingering in the middle of each checkpoint and before it gets its name."""
    save = torch.save

    def linger(content: dict[str, Any], target: IO[bytes]) -> None:
        target.write(b"PK half a checkpoint")
        target.flush()
        time.sleep(0.02)
        target.seek(0)
        save(content, target)
        time.sleep(0.02)

    torch.save = linger
    remove_abandoned_writes(run)  # as `pretrain` does
    train(root, run, settings, resume=True)


def _partial_files(run: Path) -> list[Path]:
    return list(run.rglob(".partial-*"))


@pytest.mark.parametrize("num_kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_repeats_every_bit(tmp_path: Path, num_kills: int) -> None:
    """Each kill comes a random moment after the run has got a random number of steps further."""
    root, generator = draw_images(tmp_path / "set"), random.Random(0)
    num_steps = 3 * num_kills + 22  # at least twenty after the last kill
    settings = changed(OFTEN, training={"epochs": num_steps // 2})
    run_processes(1, train, root, tmp_path / "whole", settings)
    expected, run = numbers(tmp_path / "whole"), tmp_path / "killed"
    run.mkdir()
    num_torn = 0
    for kill in range(num_kills):
        process, _ = start(_train_slowly, root, run, settings)
        step = 3 * kill + generator.randint(0, 2)
        deadline = time.monotonic() + 60
        while len(read_metrics(run)) < step and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        num_torn += len(_partial_files(run)) > 0
        lines = numbers(run)
        assert lines == expected[: len(lines)]
        assert all(load_checkpoint(path)["step"] > 0 for path in list_checkpoints(run / "checkpoints"))
    assert len(numbers(run)) <= num_steps - 20
    _, receiver = start(_train_slowly, root, run, settings)
    assert receiver.poll(90)
    assert numbers(run) == expected
    whole, killed = (load_file(path / "final.safetensors") for path in (tmp_path / "whole", run))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    assert not _partial_files(run)
    assert num_torn > 0 or num_kills < 10  # some kills came in the middle of a write


def _train_on_a_small_disk(root: Path, run: Path, settings: PretrainSettings) -> None:
    """Train where, from the second checkpoint on, no file may grow larger than a third of a checkpoint."""
    save = training_loop.save_checkpoint

    def limited(folder: Path, *arguments: Any) -> Path:
        if found := list_checkpoints(folder):
            resource.setrlimit(resource.RLIMIT_FSIZE, (found[0].stat().st_size // 3, resource.RLIM_INFINITY))
        return save(folder, *arguments)

    training_loop.save_checkpoint = limited
    train(root, run, settings)


def test_a_full_disk_stops_with_the_remedy_and_the_run_goes_on(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set")
    with pytest.raises(RuntimeError) as caught:
        run_processes(1, _train_on_a_small_disk, root, tmp_path / "run", OFTEN)
    message = str(caught.value)
    assert "InputError: no checkpoint after step 4: cannot write to " in message
    assert "(File too large); free some space" in message
    assert message.rstrip().endswith("step-000000002.pt is kept: then go on with --resume true")
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000000002.pt"]
    assert not (tmp_path / "run/final.safetensors").exists()
    for run, resume in ((tmp_path / "run", True), (tmp_path / "whole", False)):
        run_processes(1, _train, root, run, resume)
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")
    assert len(numbers(tmp_path / "run")) == 6


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_full_disk_stops_all_processes(tmp_path: Path, strategy: str) -> None:
    root, settings = draw_images(tmp_path / "set"), changed(OFTEN, training={"strategy": strategy, "batch_size": 4})
    with pytest.raises(RuntimeError) as caught:
        run_processes(2, _train_on_a_small_disk, root, tmp_path / "run", settings, seconds=60)
    assert str(caught.value).count("InputError: no checkpoint after step 3: cannot write to ") == 2
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000000002.pt"]


def test_no_room_for_the_final_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, run, write = draw_images(tmp_path / "set"), tmp_path / "run", files._write_all

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".safetensors" and list_checkpoints(run / "checkpoints"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write_all", full)
        with pytest.raises(InputError, match=r"cannot write to .*run \(No space left on device\); free some space"):
            train(root, run, OFTEN)
    assert not _partial_files(run)
    assert train(root, run, OFTEN, resume=True).num_steps == 6
    weights = load_checkpoint(list_checkpoints(run / "checkpoints")[-1])["model"]
    final = load_file(run / "final.safetensors")
    assert all(torch.equal(final[name], weights[name]) for name in weights)


def test_another_number_of_processes_is_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checkpoint of one process stands for one that several wrote."""
    root, run = draw_images(tmp_path / "set"), tmp_path / "run"
    train(root, run, changed(training={"epochs": 1}))
    path = list_checkpoints(run / "checkpoints")[-1]
    content = load_checkpoint(path)
    assert content["world_size"] == 1
    for world_size, num_changes in ((1, 0), (None, 0), (4, 1), (2, 2)):
        known = {} if world_size is None else {"world_size": world_size}
        torch.save({key: value for key, value in content.items() if key != "world_size"} | known, path)
        capsys.readouterr()
        train(root, run, changed(training={"epochs": 1}), resume=True)
        said = capsys.readouterr().err
        note = f"the run goes on after step 2 with 1 in place of {world_size} processes: it is no longer"
        assert (note in said) == (num_changes > 0)
        record = read_json(run / "run.json", "the record") if num_changes else {"process_changes": []}
        assert len(record["process_changes"]) == num_changes
    assert record["process_changes"][0] == {"after_step": 2, "before": 4, "now": 1, "is_exact": False}


@pytest.mark.slow
def test_two_processes_go_on_as_one_and_say_so(tmp_path: Path) -> None:
    root, run = draw_images(tmp_path / "set"), tmp_path / "run"
    run_processes(2, _train, root, run, False)
    list_checkpoints(run / "checkpoints")[-1].unlink()
    run_processes(1, _train, root, run, True)
    record = read_json(run / "run.json", "the record")
    assert record["process_changes"] == [{"after_step": 4, "before": 2, "now": 1, "is_exact": False}]
    assert len(numbers(run)) == 6
