"""Images through the estimator to files: in this process or shared among workers, a few images ahead at a time."""

import functools
import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from densessl.data.images import read_image
from densessl.data.masks import MaskFolder
from densessl.data.worker_pool import open_pool
from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.machine import num_cores
from densessl.saliency.proposal_store import remove_image, write_image
from densessl.saliency.proposals import SaliencySettings, propose
from densessl.saliency.record_journal import ImageRecord
from densessl.structures import ImageRef, Rejection

_AHEAD = 8
"""Images that each worker has been given or has finished, at most, before their records are taken."""
IMAGES_PER_WORKER = 64
"""Starting a worker costs some seconds, so fewer images than this, 8 seconds of the default's work, get none of their
own."""
PULSE_SECONDS = 60.0
"""Time between two lines of progress in a log."""
_OF_THE_IMAGE = (InputError, ArithmeticError, RuntimeError, np.linalg.LinAlgError, cv2.error)
"""What an estimator raises where it fails on some image: a solver does not converge, a matrix is singular. Settings and
weights that cannot be used are refused before the first image."""
_OF_THE_PROGRAM = (NotImplementedError, RecursionError, torch.OutOfMemoryError)
"""Those RuntimeErrors that are no fault of an image."""


def process_images(
    images: Sequence[ImageRef],
    out: Path,
    settings: SaliencySettings,
    num_workers: int | None,
    max_workers: int | None = None,
    maps: MaskFolder | None = None,
) -> Iterator[ImageRecord]:
    """Propose masks for images, write them below `out`, and yield the record of each as soon as it is finished.

    With workers they come in no order: a record that waited for a slower image would be lost with this process.

    Args:
        images: what to work on; one that cannot be read, or on which the estimator fails, costs one printed line.
        out: the proposals folder.
        settings: how masks are proposed.
        num_workers: processes that share the work; 0 for none but this one, `None` for as many as there are cores, but
            no more than one for every `IMAGES_PER_WORKER` images, and none in place of one. They change no result.
        max_workers: as many at most where `num_workers` is `None`, instead of the number of cores.
        maps: the maps of method `file`.

    Raises:
        InputError: a worker was killed.
        Exception: an error of the program, or a lack of memory; a note names the image.
    """
    if num_workers is None:
        num_workers = _choose_num_workers(len(images), max_workers)
    console = Console(stderr=True)
    pulse = _Pulse(console, len(images))
    with _open_progress(console, len(images)) as progress:
        task = progress.add_task("saliency", total=len(images))
        for record in _run(images, functools.partial(_finish_image, out, settings), maps, num_workers):
            if record.is_unreadable:
                progress.console.print(
                    f"rejected {record.stem}: {record.reason}", highlight=False, markup=False, soft_wrap=True
                )
            progress.advance(task)
            pulse.beat()
            yield record


def raise_unless_of_image(error: Exception, image: ImageRef) -> None:
    """Return where what an estimator raised is the fault of the image, so that others are worth trying.

    Raises:
        Exception: the error itself, where it is one of the program; a note names the image.
    """
    if not isinstance(error, _OF_THE_IMAGE) or isinstance(error, _OF_THE_PROGRAM):
        error.add_note(f"while working on image {image.stem} ({image.path})")
        raise error


def use_one_thread() -> None:
    """Keep OpenCV, torch and the linear algebra of this process to one thread; a worker has one core to itself."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threadpool_limits(1)


def _choose_num_workers(num_images: int, max_workers: int | None) -> int:
    num_workers = min(num_cores() if max_workers is None else max_workers, num_images // IMAGES_PER_WORKER)
    return num_workers if num_workers > 1 else 0


def _run(
    images: Sequence[ImageRef],
    finish: "functools.partial[ImageRecord]",
    maps: MaskFolder | None,
    num_workers: int,
) -> Iterator[ImageRecord]:
    if num_workers == 0 or not images:
        with one_thread():
            yield from (finish(maps, image) for image in images)
        return
    executor = open_pool(num_workers, use_one_thread)
    pending: set[Future[ImageRecord]] = set()
    try:
        for image in images:
            pending.add(executor.submit(finish, maps and maps.only([image]), image))
            if len(pending) == _AHEAD * num_workers:  # so that memory stays bounded
                yield from _take_finished(pending)
        while pending:
            yield from _take_finished(pending)
    except BrokenProcessPool as error:
        raise InputError(
            "a saliency worker was killed, most likely for memory; run again with a smaller num_workers "
            "(finished images are kept)"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _take_finished(pending: set[Future[ImageRecord]]) -> Iterator[ImageRecord]:
    """Wait for an image, take all that are finished out of `pending`, and yield their records, failures last."""
    finished = wait(pending, return_when=FIRST_COMPLETED).done
    pending -= finished
    yield from (future.result() for future in sorted(finished, key=lambda future: future.exception() is not None))


def source_sha256(image: ImageRef, maps: MaskFolder | None) -> str | None:
    """Return the SHA-256 of an image's file, with that of its map where one is given; None where it cannot be read."""
    given = None if maps is None else maps.files.get(image.stem)
    try:
        digest = file_sha256(image.path)
        return digest if given is None else hashlib.sha256(f"{digest} {file_sha256(given)}".encode()).hexdigest()
    except OSError:
        return None


def reading_sha256(image: ImageRef, maps: MaskFolder | None) -> str | None:
    """Return `source_sha256`, for a given map together with how it is read: other files of its folder decide that."""
    digest = source_sha256(image, maps)
    if digest is None or maps is None:
        return digest
    return hashlib.sha256(f"{digest} {maps.code!r}".encode()).hexdigest()


def _finish_image(out: Path, settings: SaliencySettings, maps: MaskFolder | None, image: ImageRef) -> ImageRecord:
    digest = reading_sha256(image, maps)
    record = _work_on(out, settings, maps, image)
    if record.reason is not None:
        remove_image(out, image.stem)
    return replace(record, file_sha256=digest)


def _work_on(out: Path, settings: SaliencySettings, maps: MaskFolder | None, image: ImageRef) -> ImageRecord:
    try:
        pixels = read_image(image.path)
        given = None if maps is None else maps.read(image, pixels.shape[:2]).soft
    except InputError as error:
        return ImageRecord(image.stem, reason=str(error), is_unreadable=True)
    height, width = pixels.shape[:2]
    try:
        result = propose(pixels, image.stem, settings, given)
    except Exception as error:
        raise_unless_of_image(error, image)
        message = " ".join(str(error).split())  # some run over several lines
        reason = f"the estimator failed: {type(error).__name__}: {message}"
        return ImageRecord(image.stem, height, width, reason=reason, is_unreadable=True)
    if isinstance(result, Rejection):
        return ImageRecord(image.stem, height, width, reason=result.reason)
    return write_image(out, result, settings.keep_soft)


@contextmanager
def one_thread() -> Iterator[None]:
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


class _Pulse:
    """Says once a minute how far the work is, where there is no terminal for a bar: in the log of a batch job."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._done, self._began = 0, time.monotonic()
        self._said = self._began

    def beat(self) -> None:
        """Take note of one more image."""
        self._done += 1
        now = time.monotonic()
        if self._console.is_terminal or now - self._said < PULSE_SECONDS:
            return
        self._said = now
        rate = self._done / (now - self._began)
        left = (self._total - self._done) / rate / 60
        self._console.print(
            f"saliency: {self._done:,} of {self._total:,} images, {rate:.1f} a second, {left:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )


def _open_progress(console: Console, total: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=total == 0 or not console.is_terminal)
