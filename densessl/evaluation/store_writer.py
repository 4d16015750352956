"""Writes a feature store so that a reader, or the next call, sees an image whole or not at all."""

import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from densessl.errors import InputError
from densessl.evaluation.feature_arrays import RECORD, ArrayFile, check_room, to_float16
from densessl.evaluation.feature_store import (
    STEMS_FILE,
    STORE_FILE,
    StoreIdentity,
    StoreLayout,
    store_arrays,
    store_content,
)
from densessl.evaluation.framed_images import FramedImage
from densessl.evaluation.prototypes import DenseFeatures
from densessl.files import writable_folder, write_json

COMMIT_SECONDS = 2.0
"""Finished images are marked as such this often, when their features have reached the disk; a kill loses no more."""

_NAMES = ("features", "saliency", "images")
_LARGEST_FLOAT16 = 65504.0


class StoreWriter:
    """Writes features to their place, and when they have reached the disk, that they are there.

    stems, file_states: of the images; whose files are others once their state is another.
    layout: of a folder that was begun; None where the first batch decides it.
    stale: rows that are marked as finished, and are not any more.
    """

    def __init__(
        self,
        folder: Path,
        identity: StoreIdentity,
        stems: Sequence[str],
        layout: StoreLayout | None,
        file_states: NDArray[np.int64],
        stale: Sequence[int] = (),
    ) -> None:
        self._folder, self._identity, self._stems, self._file_states = folder, identity, stems, file_states
        self._stale = stale
        self._layout = layout
        self._arrays: dict[str, ArrayFile] = {}
        self._handles: dict[str, io.FileIO] = {}
        self._records: list[tuple[int, NDArray]] = []
        self._last_commit = time.monotonic()
        self._pool = ThreadPoolExecutor(1)
        self._commit: Future[None] | None = None

    def __enter__(self) -> "StoreWriter":
        """Unmark what is stale, before anything is written in its place."""
        if self._stale and self._layout is not None:
            records = store_arrays(self._folder, self._layout, len(self._stems))[2]
            with writable_folder(self._folder), records.open_to_write() as handle:
                for row in self._stale:
                    records.write(handle, row, np.zeros((), dtype=RECORD))
                os.fsync(handle.fileno())
        return self

    def __exit__(self, *_: object) -> None:
        """Mark what is finished, also where the work ends with an error."""
        try:
            with writable_folder(self._folder):
                self._start_commit()
                self._finish_commit()
        finally:
            self._pool.shutdown()
            for handle in self._handles.values():
                handle.close()

    def write(self, items: Sequence[tuple[int, FramedImage]], dense: DenseFeatures, console: Console) -> None:
        """Write the features of a batch, each with the row that is its place."""
        if not self._handles:
            self._begin(dense, console)
        features, saliency = (None if part is None else part.float().cpu().numpy() for part in _parts(dense))
        with writable_folder(self._folder):
            for index, (row, item) in enumerate(items):
                self._check_shape(item.stem, dense)
                values, scale = to_float16(_finite(features[index], item.stem))  # type: ignore[index]
                self._write("features", row, values)
                if saliency is not None:
                    self._write("saliency", row, _finite(saliency[index], item.stem, limit=_LARGEST_FLOAT16))
                record = (self._file_states[row], *item.size, scale, 1, b"")
                self._records.append((row, np.array(record, dtype=RECORD)))
            if time.monotonic() - self._last_commit >= COMMIT_SECONDS:
                self._start_commit()

    def _begin(self, dense: DenseFeatures, console: Console) -> None:
        """Lay the files out, or find them, and say what they take."""
        is_new = self._layout is None
        if self._layout is None:
            self._layout = _layout(dense)
        arrays = store_arrays(self._folder, self._layout, len(self._stems))
        self._arrays = {name: array for name, array in zip(_NAMES, arrays, strict=True) if array is not None}
        if is_new:
            for array in self._arrays.values():
                array.path.unlink(missing_ok=True)  # of a call that was stopped before it wrote features.json
        _say_size(console, self._folder, self._layout, len(self._stems), list(self._arrays.values()))
        check_room(self._folder, list(self._arrays.values()))
        for array in self._arrays.values():
            if is_new:
                array.create()
            array.check()
        if is_new:
            write_json(self._folder / STEMS_FILE, list(self._stems), indent=None)
            write_json(self._folder / STORE_FILE, store_content(self._identity, self._layout))
        self._handles = {name: array.open_to_write() for name, array in self._arrays.items()}

    def _check_shape(self, stem: str, dense: DenseFeatures) -> None:
        found = _layout(dense)
        if found != self._layout:
            raise InputError(
                f"features of image {stem!r} have another shape ({found}) than those before ({self._layout}); an "
                "encoder must give images of one size features of one shape"
            )

    def _write(self, name: str, row: int, values: NDArray) -> None:
        self._arrays[name].write(self._handles[name], row, values)

    def _start_commit(self) -> None:
        """Let the thread bring to the disk what was written, and mark it."""
        self._finish_commit()
        if self._records:
            self._commit = self._pool.submit(self._mark, self._records)
        self._records, self._last_commit = [], time.monotonic()

    def _finish_commit(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            commit.result()

    def _mark(self, records: list[tuple[int, NDArray]]) -> None:
        for name, handle in self._handles.items():
            if name != "images":
                os.fsync(handle.fileno())
        for row, record in records:
            self._write("images", row, record)
        os.fsync(self._handles["images"].fileno())


def _parts(dense: DenseFeatures) -> tuple[torch.Tensor, torch.Tensor | None]:
    return dense.features, dense.saliency


def _layout(dense: DenseFeatures) -> StoreLayout:
    dim, height, width = dense.features.shape[1:]
    saliency = None if dense.saliency is None else (int(dense.saliency.shape[1]), int(dense.saliency.shape[2]))
    return StoreLayout((int(dim), int(height), int(width)), saliency, dense.project is not None)


def _finite(values: NDArray[np.float32], stem: str, limit: float = np.inf) -> NDArray[np.float32]:
    peak = np.abs(values).max()
    if not peak < np.inf or peak > limit:  # NaN too
        raise InputError(
            f"features of image {stem!r} hold NaN, infinity or a value that cannot be stored (largest {peak}); check "
            "the weights they come from, and the precision they are computed in"
        )
    return values


def _say_size(console: Console, folder: Path, layout: StoreLayout, num_images: int, arrays: list[ArrayFile]) -> None:
    dim, height, width = layout.features
    logits = "" if layout.saliency is None else ", saliency {} x {}".format(*layout.saliency)
    total = sum(array.num_bytes for array in arrays)
    shape = f"{dim} x {height} x {width}{logits}"
    console.print(f"features of {num_images} images, {shape}, float16: {total / 1e9:.2f} GB in {folder}")
