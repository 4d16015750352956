"""Mask proposals for a whole set of images: in parallel, resumable, and the same whatever the number of workers."""

import functools
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.files import make_folder, read_json, write_json
from densessl.saliency.feature_settings import DEEP_METHODS
from densessl.saliency.proposal_store import (
    ImageRecord,
    append_record,
    is_written,
    read_records,
    write_image,
    write_lists,
)
from densessl.saliency.proposals import SaliencySettings, propose
from densessl.structures import ImageRef, ImageSet, Rejection

IMAGES_PER_WORKER = 64
"""Starting a worker costs some seconds, so fewer images than this get none of their own."""


@dataclass(frozen=True)
class SaliencySummary:
    """What a run of the stage did.

    num_images: images in the set; num_masks: those with a mask; num_rejected: those without; num_reused: those
    finished by an earlier run; images_per_second: of this run, 0 where it had nothing to do.
    """

    folder: Path
    num_images: int
    num_masks: int
    num_rejected: int
    num_reused: int
    images_per_second: float

    def __str__(self) -> str:
        done = f"{self.num_masks} masks from {self.num_images} images, {self.num_rejected} rejected"
        if self.num_reused == self.num_images:
            return f"{done}; all were finished before: {self.folder}"
        reused = f", {self.num_reused} finished before" if self.num_reused else ""
        return f"{done}{reused}; {self.images_per_second:.1f} images a second: {self.folder}"


def generate_proposals(
    images: ImageSet, out: Path, settings: SaliencySettings, num_workers: int | None = None
) -> SaliencySummary:
    """Propose masks for every image of a set and write them below `out` (layout: `proposal_store`).

    A run that was killed goes on where it stopped; finished images are not done again, broken files are tried anew.
    An image that cannot be read costs one line and a place in `rejected.json`. `num_workers` processes share the
    work (0: none but this one; `None`: as many as there are cores, fewer for small sets) and change no result.
    Scripts that call this with workers need the usual `if __name__ == "__main__"` guard. No label is read.

    Raises `InputError` where `out` cannot be written or was begun with other settings or weights, where an encoder
    cannot be loaded, and where a worker dies.
    """
    if num_workers is not None and num_workers < 0:
        raise InputError(f"num_workers {num_workers} is negative; give 0 for this process alone, or more")
    make_folder(out)
    weights = _describe_weights(settings)
    claim_folder(out, settings, weights)
    journal = out / "records.jsonl"
    records = read_records(journal)
    _drop_cut_line(journal)
    todo = [image for image in images.images if not _is_done(out, records.get(image.stem), settings)]
    started = time.monotonic()
    for record in _process(todo, out, settings, num_workers):
        append_record(journal, record)
        records[record.stem] = record
    seconds = time.monotonic() - started
    ordered = [records[image.stem] for image in images.images]
    write_lists(out, ordered)
    num_masks = sum(record.reason is None for record in ordered)
    summary = SaliencySummary(
        folder=out,
        num_images=len(ordered),
        num_masks=num_masks,
        num_rejected=len(ordered) - num_masks,
        num_reused=len(ordered) - len(todo),
        images_per_second=len(todo) / max(seconds, 1e-9),
    )
    counts = {"images": len(ordered), "masks": num_masks, "rejected": len(ordered) - num_masks}
    _write_settings(out, settings, weights, counts)
    return summary


def use_one_thread() -> None:
    """Keep OpenCV, torch and the linear algebra of this process to one thread; a worker has one core to itself."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threadpool_limits(1)


def claim_folder(out: Path, settings: SaliencySettings, weights: dict[str, Any] | None = None) -> None:
    """Record the settings in `saliency.json`; raises `InputError` where the folder was begun with other ones.

    `weights` describes an encoder's weights: `weights_sha256` of their file, by which they are compared, so that a
    file may move but not change, and `supervision`. Settings that a folder does not record, because it was written
    before they existed, count as the defaults.
    """
    path = out / "saliency.json"
    if not path.exists():
        _write_settings(out, settings, weights, None)
        return
    content = read_json(path, "the settings of a run of `densessl saliency`")
    recorded = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(recorded, dict):
        raise InputError(f"{path} holds no saliency settings; choose another output folder")
    before = _compared({**_defaults(), **recorded}, content.get("features"))
    differences = [
        f"{name} {before.get(name)!r} there, {value!r} now"
        for name, value in _compared(settings.plain(), weights).items()
        if before.get(name) != value
    ]
    if differences:
        raise InputError(
            f"{out} was begun with other settings ({'; '.join(differences)}); use those, or another output folder"
        )


def _compared(settings: dict[str, Any], weights: object) -> dict[str, Any]:
    """Return the settings with the digest of a weights file in place of its path."""
    digest = weights.get("weights_sha256") if isinstance(weights, dict) else None
    return settings if digest is None else {**settings, "weights": f"with SHA-256 {str(digest)[:16]}"}


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(SaliencySettings)}


def _describe_weights(settings: SaliencySettings) -> dict[str, Any] | None:
    if settings.method not in DEEP_METHODS:
        return None
    from densessl.saliency.deep_estimator import feature_record  # timm, which the other methods need not wait for

    return dict(feature_record(settings.features))


def _write_settings(
    out: Path, settings: SaliencySettings, weights: dict[str, Any] | None, counts: dict[str, int] | None
) -> None:
    features = {} if weights is None else {"features": weights}
    write_json(out / "saliency.json", {"settings": settings.plain(), **features, "counts": counts})


def _is_done(out: Path, record: ImageRecord | None, settings: SaliencySettings) -> bool:
    return record is not None and is_written(out, record, settings.keep_soft)


def _drop_cut_line(journal: Path) -> None:
    """Cut the journal after its last whole line, so that the next record starts on a line of its own."""
    if journal.is_file():
        with journal.open("rb+") as handle:
            handle.truncate(handle.read().rfind(b"\n") + 1)


def _process(
    images: Sequence[ImageRef], out: Path, settings: SaliencySettings, num_workers: int | None
) -> Iterator[ImageRecord]:
    console = Console(stderr=True)
    with _open_progress(console, len(images)) as progress:
        task = progress.add_task("saliency", total=len(images))
        for record in _run(images, functools.partial(_finish_image, out, settings), num_workers):
            if record.is_unreadable:
                progress.console.print(
                    f"rejected {record.stem}: {record.reason}", highlight=False, markup=False, soft_wrap=True
                )
            progress.advance(task)
            yield record


def _run(
    images: Sequence[ImageRef], work: "functools.partial[ImageRecord]", num_workers: int | None
) -> Iterator[ImageRecord]:
    if num_workers is None:
        num_workers = min(_num_cores(), len(images) // IMAGES_PER_WORKER)
        num_workers = num_workers if num_workers > 1 else 0
    if num_workers == 0 or not images:
        with _one_thread():
            yield from map(work, images)
        return
    # A fresh interpreter: forking a process that has used threads (torch, OpenCV) can hang the child.
    context = get_context("spawn")
    executor = ProcessPoolExecutor(num_workers, context, initializer=use_one_thread)
    try:
        yield from executor.map(work, images, chunksize=4)
    except BrokenProcessPool as error:
        raise InputError(
            "a saliency worker was killed, most likely for memory; run again with a smaller num_workers "
            "(finished images are kept)"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _finish_image(out: Path, settings: SaliencySettings, image: ImageRef) -> ImageRecord:
    try:
        pixels = read_image(image.path)
    except InputError as error:
        return ImageRecord(image.stem, reason=str(error), is_unreadable=True)
    result = propose(pixels, image.stem, settings)
    if isinstance(result, Rejection):
        return ImageRecord(image.stem, pixels.shape[0], pixels.shape[1], reason=result.reason)
    return write_image(out, result, settings.keep_soft)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, as the workers do: rounding may depend on the number of threads."""
    previous, previous_torch = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(previous)
        torch.set_num_threads(previous_torch)


def _open_progress(console: Console, total: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=total == 0 or not console.is_terminal)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
