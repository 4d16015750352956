"""The arrays of a feature store: numpy files with a place for each image, written and read without mapping them.

    features.npy   float16 (num_images, dim, h, w)
    saliency.npy   float16 (num_images, height, width), logits, where the encoder has a saliency head
    images.npy     one `RECORD` for each image; its `is_done` is written after everything else of the image is on disk

Files are as long as they will be from the beginning, so a place holds zeros, or the part that a killed writer left,
until its record says otherwise. They are read and written, not mapped: that takes no memory that stays, and a full disk
is an error, where a mapped file would kill the process.
"""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from densessl.errors import InputError
from densessl.files import writable_folder

RECORD = np.dtype(
    [("file_state", "<i8"), ("height", "<i4"), ("width", "<i4"), ("scale", "<f4"), ("is_done", "u1"), ("unused", "V3")]
)
"""Digest of length and date of the image's file, native size, factor of its stored features, whether it is finished."""


@dataclass(frozen=True)
class ArrayFile:
    """A numpy file whose rows are read and written one by one.

    shape: of the whole array.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """Length of the file."""
        return len(self._head()) + self.shape[0] * self._row_bytes

    def create(self) -> None:
        """Make the file, full of zeros that take no room yet; one that is there is emptied."""
        with writable_folder(self.path.parent), self.path.open("wb") as handle:
            handle.write(self._head())
            handle.truncate(self.num_bytes)

    def check(self) -> None:
        """Raise `InputError` where the file is not this array."""
        length = self.path.stat().st_size if self.path.is_file() else None
        if length != self.num_bytes:
            found = "is missing" if length is None else f"has {length} bytes instead of {self.num_bytes}"
            raise InputError(f"{self.path} {found}; remove the folder and compute the features again")
        with self.path.open("rb") as handle:
            if handle.read(len(self._head())) != self._head():
                raise InputError(
                    f"{self.path} holds another array than {self.dtype} {self.shape}; remove the folder and compute "
                    "the features again"
                )

    def read(self, row: int) -> NDArray:
        """Return a copy of one row."""
        content = bytearray(self._row_bytes)
        filled, view = 0, memoryview(content)
        with self._opened("rb") as handle:
            handle.seek(self._start(row))
            while filled < len(view):
                count = handle.readinto(view[filled:])
                if not count:
                    raise InputError(f"{self.path} is cut off; remove the folder and compute the features again")
                filled += count
        return np.frombuffer(content, dtype=self.dtype).reshape(self.shape[1:])

    def read_all(self) -> NDArray:
        """Return a copy of the whole array."""
        array: NDArray = np.load(self.path, allow_pickle=False)
        return array

    def open_to_write(self) -> io.FileIO:
        """Open the file for `write`."""
        return self._opened("rb+")

    def write(self, handle: io.FileIO, row: int, values: NDArray) -> None:
        """Write one row through an open file; an `OSError` of a full disk passes through."""
        content = memoryview(np.ascontiguousarray(values, dtype=self.dtype).tobytes())
        if len(content) != self._row_bytes:
            raise ValueError(f"{len(content)} bytes for a row of {self._row_bytes}")
        handle.seek(self._start(row))
        while content:
            content = content[handle.write(content) :]

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def _start(self, row: int) -> int:
        if not 0 <= row < self.shape[0]:
            raise IndexError(f"row {row} of {self.shape[0]}")
        return len(self._head()) + row * self._row_bytes

    def _opened(self, mode: str) -> io.FileIO:
        try:
            return io.FileIO(self.path, mode)
        except OSError as error:
            raise InputError(f"{self.path} cannot be opened ({error.strerror}); compute the features again") from error

    def _head(self) -> bytes:
        head = io.BytesIO()
        description = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        npy.write_array_header_1_0(head, description)
        return head.getvalue()


def array_file(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> ArrayFile:
    """Return the array of a file."""
    return ArrayFile(path, shape, np.dtype(dtype))


def check_room(folder: Path, arrays: list[ArrayFile]) -> None:
    """Raise `InputError` where the disk has less room than the arrays still need."""
    needed = sum(array.num_bytes - _allocated_bytes(array.path) for array in arrays)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the features need {needed / 1e9:.2f} GB more in {folder}, but its disk has {free / 1e9:.2f} GB free; "
            "choose a folder on another disk, a smaller image size, or an encoder with fewer channels"
        )


def to_float16(values: NDArray[np.float32]) -> tuple[NDArray[np.float16], float]:
    """Return features as float16, and what to multiply them by to have them back.

    The factor is 1 where the largest magnitude lies in [2^-4, 2^15], as for nearly every encoder; otherwise it is the
    power of two that brings the largest to [1, 2). So nothing overflows, values down to 2^-10 of the largest keep the
    11 bits of float16, and the error of smaller ones is at most 2^-21 of the largest.
    """
    peak = float(np.abs(values).max())
    scale = 1.0
    if peak > 0 and not 2.0**-4 <= peak <= 2.0**15:
        scale = float(2.0 ** (np.frexp(peak)[1] - 1))
    return (values / np.float32(scale)).astype(np.float16), scale


def _allocated_bytes(path: Path) -> int:
    if not path.is_file():
        return 0
    stat = path.stat()
    return min(stat.st_size, stat.st_blocks * 512) if hasattr(stat, "st_blocks") else stat.st_size
