"""Decoded images and masks on disk, so that each is decoded once: one file with a place for every image.

The file is laid out before anything is decoded, from the sizes of the images, so that its size is bounded beforehand
and processes need no lock: whoever decodes an image writes it to its own place. A place is

    key (16 bytes) | CRC-32 of what follows (4, little endian) | image (height, width, 3) | instance map (height, width)
    | confidence (height, width), in caches that hold it

and the key is written last. A place whose key is not the expected one is empty: never written, or written of a file
that has changed since. So a killed writer leaves empty places, and a reader sees a whole image or none. Checksums are
compared when a process first reads a place; that finds what a power cut or a failing disk has left.
"""

import contextlib
import hashlib
import io
import os
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from densessl.errors import InputError
from densessl.files import make_folder
from densessl.structures import ImageArray


class Source(NamedTuple):
    """An image (height, width, 3), its instance map (height, width) and how sure that is (height, width), all uint8.

    The confidence (`densessl.data.confidence`) is there where it is asked for.
    """

    image: ImageArray
    masks: NDArray[np.uint8]
    confidence: NDArray[np.uint8] | None = None


_HEAD = struct.Struct("<16sI")
_NAME = "sources-{}.cache"


class SourceCache:
    """The decoded images that fit into a bounded file; further ones are not kept.

    Processes may share the file, and so may runs: its name follows from the stems and sizes of the images.

    Args:
        folder: where the file is, on a local disk at best.
        stems: of the images.
        sizes: (height, width) at which each is kept.
        keys: 16 bytes for each that change whenever its pixels would.
        max_bytes: of the file. Images find their places in the order given.
        has_confidence: whether sources hold a confidence.
        group: the settings on the command line that hold `cache_gb`, for errors.
        elsewhere: how another folder is given, for errors.
    """

    def __init__(
        self,
        folder: Path,
        stems: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        keys: Sequence[bytes],
        max_bytes: float,
        *,
        has_confidence: bool = False,
        group: str = "training",
        elsewhere: str = "give another folder as training.cache",
    ) -> None:
        self._group, self._elsewhere = group, elsewhere
        self._sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        self._num_planes = 5 if has_confidence else 4
        ends = np.cumsum(_HEAD.size + self._num_planes * self._sizes.prod(axis=1))
        self._starts = np.concatenate([[0], ends[:-1]])
        self._keys = keys
        self._max_bytes = max_bytes
        self.num_kept = int(np.searchsorted(ends, max_bytes, side="right"))
        """How many of the images have a place."""
        self.num_bytes = int(ends[self.num_kept - 1]) if self.num_kept else 0
        self.path = folder / _NAME.format(_fingerprint(stems, self._sizes, has_confidence))
        self._is_checked = bytearray(self.num_kept)
        self._handle: io.FileIO | None = None
        self._process = 0
        self._is_writable = True

    def prepare(self) -> None:
        """Make room for the file; where the folder would exceed the bound, caches of other images go, oldest first.

        Raises:
            InputError: the folder cannot be written, or its disk has too little space.
        """
        folder = make_folder(self.path.parent)
        _remove_oldest(folder, self.path, self._max_bytes - self.num_bytes)
        own = _allocated_bytes(self.path)
        free = shutil.disk_usage(folder).free
        if self.num_bytes - own > free:
            raise InputError(
                f"the cache {self.path} may grow by {(self.num_bytes - own) / 1e9:.1f} GB, but its disk has "
                f"{free / 1e9:.1f} GB free; lower {self._group}.cache_gb, or {self._elsewhere} on another disk"
            )
        with self._open() as handle:
            handle.truncate(self.num_bytes)  # longer where it was made with a higher bound
        os.utime(self.path)

    def report(self) -> None:
        """Print how many images are kept, and where."""
        num_images = len(self._keys)
        _say(f"{self.num_kept} of {num_images} decoded images are kept ({self.num_bytes / 1e9:.2f} GB) in {self.path}")

    def read(self, index: int) -> Source | None:
        """Return an image with what belongs to it, `None` where the cache does not hold them (now)."""
        if index >= self.num_kept:
            return None
        height, width = (int(length) for length in self._sizes[index])
        content = np.empty(self._num_planes * height * width, dtype=np.uint8)
        try:
            handle = self._own_handle()
            handle.seek(int(self._starts[index]))
            head = handle.read(_HEAD.size)
            if len(head) < _HEAD.size or head[:16] != self._keys[index] or _fill(handle, content) < content.size:
                return None
        except (OSError, InputError) as error:
            self._give_up(error)
            return None
        if not self._is_checked[index]:
            if zlib.crc32(content.data) != _HEAD.unpack(head)[1]:
                _say(f"{self.path} is damaged at byte {self._starts[index]}; that image is decoded and stored again")
                return None
            self._is_checked[index] = True
        image, *maps = np.split(content, height * width * np.arange(3, self._num_planes))
        return Source(image.reshape(height, width, 3), *(plane.reshape(height, width) for plane in maps))

    def write(self, index: int, source: Source) -> None:
        """Keep a decoded image, if it has a place and the size that it was given; never raises for a full disk."""
        size = source.image.shape[:2]
        if index >= self.num_kept or not self._is_writable or size != tuple(self._sizes[index]):
            return
        content = b"".join(plane.tobytes() for plane in source if plane is not None)
        start = int(self._starts[index])
        try:
            handle = self._own_handle()
            handle.seek(start + _HEAD.size)
            _write_all(handle, content)
            handle.seek(start)
            _write_all(handle, _HEAD.pack(self._keys[index], zlib.crc32(content)))
        except (OSError, InputError) as error:
            self._give_up(error)

    def remove(self) -> None:
        """Remove the file, and its folder if that is empty then."""
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_process": 0}

    def _own_handle(self) -> io.FileIO:
        """Return the open file of this very process: a handle that came with a fork would share its position."""
        if self._handle is None or self._process != os.getpid():
            self._handle, self._process = self._open(), os.getpid()
        return self._handle

    def _open(self) -> io.FileIO:
        folder = self.path.parent
        if not self.path.exists():
            make_folder(folder)  # on another machine of the job
        try:
            return io.FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise InputError(
                f"cannot open the cache {self.path} ({error.strerror}); remove it, or {self._elsewhere}"
            ) from error

    def _give_up(self, error: Exception) -> None:
        """Write nothing more in this process, and say so once."""
        if self._is_writable:
            _say(f"no more images are kept in {self.path} ({error}); they are decoded each time")
        self._is_writable = False


def source_key(*parts: object) -> bytes:
    """Return 16 bytes that change with any of the parts, by their `repr`."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def _fingerprint(stems: Sequence[str], sizes: NDArray[np.int64], has_confidence: bool) -> str:
    digest = hashlib.blake2b("\n".join(stems).encode(), digest_size=8)
    digest.update(sizes.tobytes() + (b"confidence" if has_confidence else b""))
    return digest.hexdigest()


def _remove_oldest(folder: Path, own: Path, max_bytes: float) -> None:
    """Remove the caches of other images that were used longest ago, until the rest takes at most `max_bytes`.

    A run that reads one goes on reading it: its name is gone, the file only when it is closed.
    """
    others = []
    for path in folder.glob(_NAME.format("*")):
        with contextlib.suppress(OSError):  # another run removes it at this moment
            stat = path.stat()
            others.append((stat.st_mtime, stat.st_size, path))
    used = sum(size for _, size, path in others if path != own)
    for _, size, path in sorted(others):
        if used > max_bytes and path != own:
            with contextlib.suppress(OSError):
                path.unlink()
            used -= size


def _allocated_bytes(path: Path) -> int:
    """Return what a file takes on its disk, less than its length where it has holes; 0 where there is none."""
    if not path.is_file():
        return 0
    stat = path.stat()
    return stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size


def _fill(handle: io.FileIO, content: NDArray[np.uint8]) -> int:
    """Read until `content` is full or the file ends; returns the bytes read."""
    view, filled = content.data, 0
    while filled < len(view):
        count = handle.readinto(view[filled:])
        if not count:
            break
        filled += count
    return filled


def _write_all(handle: io.FileIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[handle.write(view) :]


def _say(line: str) -> None:
    Console(stderr=True).print(line, soft_wrap=True, highlight=False, markup=False)
