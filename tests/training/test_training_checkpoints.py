"""Checkpoints: atomic, the last few kept, nothing executed, damage named."""

import errno
import os
import pathlib
import stat
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from densessl.errors import InputError, MissingInputError
from densessl.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint


def _names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"model": {"weight": torch.arange(4.0)}, "seconds": 1.5, "groups": [{"lr": 0.1}], "num_replaced": 2}
    path = save_checkpoint(tmp_path / "checkpoints", 12, state, keep=2)
    assert path.name == "step-000000012.pt"
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["model"]["weight"], state["model"]["weight"])  # type: ignore[index]
    assert (loaded["step"], loaded["seconds"], loaded["groups"]) == (12, 1.5, [{"lr": 0.1}])


def test_the_last_few_are_kept_in_order_of_steps(tmp_path: Path) -> None:
    for step in (5, 90, 100, 1000):
        save_checkpoint(tmp_path, step, {}, keep=3)
    assert _names(tmp_path) == ["step-000000090.pt", "step-000000100.pt", "step-000001000.pt"]
    save_checkpoint(tmp_path, 2000, {}, keep=1)
    assert _names(tmp_path) == ["step-000002000.pt"]


def test_other_files_are_neither_listed_nor_deleted(tmp_path: Path) -> None:
    for name in ("notes.txt", ".partial-abc.pt", "step-1.pt", "step-000000001.pt.bak"):
        (tmp_path / name).write_text("mine")
    save_checkpoint(tmp_path, 1, {}, keep=1)
    assert _names(tmp_path) == ["step-000000001.pt"]
    assert len(list(tmp_path.iterdir())) == 5
    assert list_checkpoints(tmp_path / "nowhere") == []


def test_a_write_that_breaks_off_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, {"value": 1}, keep=1)

    def half(content: dict[str, Any], handle: IO[bytes]) -> None:
        handle.write(b"PK half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    for step in (1, 2):  # over itself, and beside
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, step, {"value": 2}, keep=1)
    assert _names(tmp_path) == ["step-000000001.pt"]
    assert load_checkpoint(tmp_path / "step-000000001.pt")["value"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_named_and_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: dict[str, Any], handle: IO[bytes]) -> None:
        handle.write(b"PK half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(InputError, match=r"no checkpoint after step 1: .*No space left.*none was written before"):
            save_checkpoint(tmp_path, 1, {}, keep=1)
    save_checkpoint(tmp_path, 1, {"value": 1}, keep=1)
    monkeypatch.setattr(torch, "save", full)
    message = (
        r"^no checkpoint after step 2: cannot write to .*\(No space left on device\); free some space or choose "
        r"another folder; step-000000001.pt is kept: then go on with --resume true$"
    )
    with pytest.raises(InputError, match=message):
        save_checkpoint(tmp_path, 2, {"value": 2}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]
    assert load_checkpoint(tmp_path / "step-000000001.pt")["value"] == 1


def test_an_old_checkpoint_goes_only_when_the_new_one_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, {}, keep=1)
    synced, fsync = [], os.fsync

    def note(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), _names(tmp_path)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    save_checkpoint(tmp_path, 2, {}, keep=1)
    old, new = "step-000000001.pt", "step-000000002.pt"
    assert synced == [(False, [old]), (True, [old, new])]  # the file, then the folder, with the old one still there
    assert _names(tmp_path) == [new]


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no checkpoint .*step-000000001.pt; expected a file step-<number>.pt"):
        load_checkpoint(tmp_path / "step-000000001.pt")


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, b"PK\x03\x04 not a zip"])
def test_garbage_is_named_without_advice_to_run_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "step-000000001.pt"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"step-000000001.pt is cut off.*delete it to resume from the one before$"
    ) as caught:
        load_checkpoint(path)
    assert "weights_only" not in str(caught.value)


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"weight": torch.ones(1000)}, keep=1)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"step-000000001.pt is cut off"):
        load_checkpoint(path)


class _WritesOnRead:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pathlib.Path.touch, (self.target,)  # type: ignore[return-value]


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    path, target = tmp_path / "step-000000001.pt", tmp_path / "ran"
    torch.save({"format": "densessl-pretrain-1", "step": 1, "model": _WritesOnRead(target)}, path)
    with pytest.raises(InputError, match=r"not written by densessl"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"format": "densessl-pretrain-0"}])
def test_files_of_other_programs_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "step-000000001.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=r"is not a checkpoint of densessl pretraining \(format densessl-pretrain-1\)"):
        load_checkpoint(path)
