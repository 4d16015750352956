"""Atomic writes and JSON: a reader never sees half a file, and what a killed process left behind is swept away."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from densessl.errors import InputError, MissingInputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_PARTIAL = re.compile(r"\.partial-(?P<host>\w*)-(?P<process>\d{1,9})-.*", re.ASCII)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary path)` in the folder of `path`, then rename the result to `path`.

    The temporary file has the suffix of `path`, because image libraries choose the format by it, and names the host
    and the process that write it (see `remove_abandoned_writes`). Missing parent folders are made. Raises
    `InputError` where the folder cannot be written.
    """
    with writable_folder(path.parent):
        prefix = f".partial-{_host()}-{os.getpid()}-"
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
        os.close(descriptor)
        temporary = Path(name)
        try:
            write(temporary)
            os.chmod(temporary, 0o666 & ~_umask())
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda temporary: _write_all(temporary, content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def append_text(path: Path, text: str) -> None:
    """Add UTF-8 text to the end of a file; raises `InputError` where it cannot be written.

    Not atomic: a full disk or a kill can leave the first part of `text` there.
    """
    with writable_folder(path.parent), path.open("a", encoding="utf-8") as handle:
        handle.write(text)


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write `value` as strict JSON (no NaN or infinity) atomically."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file; `expected` says what it should hold, for the error when it is missing or broken."""
    if not path.is_file():
        raise MissingInputError(f"no file {path}; expected {expected}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); expected {expected}") from error


def make_folder(path: Path) -> Path:
    """Make a folder for output and check that it can be written; raises `InputError` where it cannot."""
    with writable_folder(path), tempfile.TemporaryFile(dir=path):
        return path


def check_unused_folder(folder: Path, command: str, record: str, allowed: Iterable[str] = ()) -> None:
    """Raise `InputError` where a folder without the record of a command holds something, which would be written over.

    Args:
        folder: that is there. command: that wants it. record: the file by which the command knows its own folders.
        allowed: names that may be there all the same.
    """
    found = sorted(path.name for path in folder.iterdir() if not _PARTIAL.fullmatch(path.name))
    foreign = [name for name in found if name not in allowed]
    if foreign:
        raise InputError(
            f"{folder} holds {foreign[0]}, but no {record}, so `{command}` did not begin it; choose a new or an empty "
            "folder (--out)"
        )


def remove_abandoned_writes(folder: Path) -> None:
    """Remove the temporary files that writers killed in the middle of `write_atomically` left in and below a folder.

    Files of processes that run are left alone, and so are those of other hosts, whose processes cannot be seen from
    here. Call it while this process writes nothing there itself: a file that bears its own number is taken for that
    of an earlier process, because a container that starts again gives the same numbers again.

    Raises `InputError` where a file may not be removed.
    """
    with writable_folder(folder):
        for parent, _, names in os.walk(folder):
            for name in names:
                if _is_abandoned(name):
                    Path(parent, name).unlink(missing_ok=True)


def _is_abandoned(name: str) -> bool:
    writer = _PARTIAL.fullmatch(name)
    if writer is None or writer["host"] != _host():
        return False
    process = int(writer["process"])
    return process == os.getpid() or not _is_running(process)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no mere question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        return True
    return not _has_ended(process)


def _has_ended(process: int) -> bool:
    """Say whether a process that still has a number is a zombie: one whose parent has not asked how it ended.

    The first process of a container, to which the workers of a killed call fall, may ask late or never.
    """
    try:
        state = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # no Linux, or gone this moment
        return False
    return state in ("Z", "X")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", platform.node())[:64]


@contextlib.contextmanager
def writable_folder(folder: Path) -> Iterator[None]:
    """Make a folder and turn what the system says of a write in the block that fails into an `InputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InputError(
            f"cannot write to {folder} ({error.strerror or error}); choose an output folder you may write"
        ) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise InputError(
            f"cannot write to {folder} ({error.strerror}); free some space or choose another folder"
        ) from error


def _write_all(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def state_of_files(paths: Iterable[Path]) -> str:
    """Return a digest of where files are, how long, and when they were last changed; not of what is in them.

    A file that is not there counts as missing: whoever reads it says what is wrong with it.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            digest.update(f"{path} missing\n".encode())
        else:
            digest.update(f"{path.resolve()} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def describe_difference(key: str, there: object, now: object) -> str:
    """Say how a value in the record of a folder differs from that of a call; `images` and `masks` are digests."""
    if key in ("images", "masks"):
        return f"the {key} are others, or were changed since"
    return f"{key} {there!r} there, {now!r} now"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits; an `OSError` of reading it passes through."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
