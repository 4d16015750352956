"""Atomic writes: whole files or none, readable errors."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from densessl import files
from densessl.errors import InputError, MissingInputError
from densessl.files import (
    append_text,
    file_sha256,
    make_folder,
    read_json,
    remove_abandoned_writes,
    state_of_files,
    write_atomically,
    write_bytes,
    write_json,
    write_text,
)

STALLED_WRITE = """
import sys, time
from pathlib import Path
from densessl.files import file_sha256, write_atomically

def stall(temporary):
    temporary.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
    temporary.write_text("whole")

write_atomically(Path(sys.argv[1]), stall)
"""
"""A program that stops in the middle of a write until it reads a line."""


@pytest.fixture
def start_write() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start a process that is in the middle of writing a file."""
    started = []

    def start(path: Path) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", STALLED_WRITE, str(path)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def partial_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".partial-*"))


def test_written_content_comes_back(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b.bin", b"\x00\x01")
    write_text(tmp_path / "c.txt", "é\n")
    write_json(tmp_path / "d.json", {"x": [1, 2.5]})
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\x01"
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") == "é\n"
    assert read_json(tmp_path / "d.json", "numbers") == {"x": [1, 2.5]}


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_temporary_file_has_the_suffix(tmp_path: Path) -> None:
    seen = []
    write_atomically(tmp_path / "m.png", lambda path: seen.append(path.suffix))
    assert seen == [".png"]


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_is_not(
    tmp_path: Path, start_write: Callable[[Path], "subprocess.Popen[str]"]
) -> None:
    """Both write the same file of a nested folder."""
    path = tmp_path / "checkpoints" / "deep" / "step.pt"
    killed, living = start_write(path), start_write(path)
    killed.kill()
    killed.wait()
    assert len(partial_files(tmp_path)) == 2
    remove_abandoned_writes(tmp_path)
    (left,) = partial_files(tmp_path)
    assert f"-{living.pid}-" in left.name
    living.communicate("go on\n")
    assert living.returncode == 0
    assert path.read_text() == "whole"
    assert partial_files(tmp_path) == []


def test_only_names_of_this_host_and_of_no_running_process_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.platform, "node", lambda: "node-1.example")
    own, parent = os.getpid(), os.getppid()
    removed = [f".partial-node_1_example-{own}-abc.png", ".partial-node_1_example-999999999-ab_c.pt"]
    kept = [
        *(f".partial-node_1_example-{parent}-abc.png", ".partial-node_2-999999999-abc.pt"),
        *(".partial-abc.png", "partial-node_1_example-999999999-abc", "photo.png"),
    ]
    for name in (*removed, *kept):
        (tmp_path / name).write_text("x")
    remove_abandoned_writes(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == set(kept)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="Linux shows how processes are")
def test_a_process_that_has_ended_and_keeps_its_number_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen((sys.executable, "-c", ""))
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # leaves the zombie
    os.kill(ended.pid, 0)
    monkeypatch.setattr(files.platform, "node", lambda: "host")
    (tmp_path / f".partial-host-{ended.pid}-abc.png").write_text("half")
    remove_abandoned_writes(tmp_path)
    assert list(tmp_path.iterdir()) == []
    ended.wait()


def test_a_process_of_another_user_counts_as_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_forbidden(process: int, signal: int) -> None:
        raise PermissionError

    path = tmp_path / ".partial-host-999999999-abc.png"
    path.write_text("x")
    monkeypatch.setattr(files.platform, "node", lambda: "host")
    monkeypatch.setattr(os, "kill", is_forbidden)
    remove_abandoned_writes(tmp_path)
    assert path.exists()


def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    write_text(tmp_path / "new.txt", "x")
    (tmp_path / "plain.txt").write_text("x")
    assert (tmp_path / "new.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_folder_in_the_way_of_a_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="choose an output folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(InputError, match="choose an output folder"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_make_folder_returns_it(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_read_json_says_what_it_wanted(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"expected a run record"):
        read_json(tmp_path / "none.json", "a run record")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "bad.json", "a run record")


def test_appended_text_stands_at_the_end(tmp_path: Path) -> None:
    append_text(tmp_path / "new" / "a.txt", "one\n")
    append_text(tmp_path / "new" / "a.txt", "two\n")
    assert (tmp_path / "new" / "a.txt").read_text() == "one\ntwo\n"


def test_a_disk_that_is_full_while_appending_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(*given: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", is_full)
    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        append_text(tmp_path / "a.txt", "x")


def test_the_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_that_goes_or_changes_changes_the_state(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"1")
    first = state_of_files(paths)
    assert state_of_files(paths) == first
    paths[1].write_bytes(b"12")
    changed = state_of_files(paths)
    paths[1].unlink()
    assert len({first, changed, state_of_files(paths)}) == 3
