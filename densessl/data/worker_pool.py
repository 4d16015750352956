"""Pools of processes that do not outlive this one, and work on numbered items shared among them, results in order."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

import cv2

from densessl.errors import InputError
from densessl.machine import num_cores

ResultT = TypeVar("ResultT")

_CHUNK = 16

_work: Callable[[int], Any]  # of a worker process, which gets it when it starts


def open_pool(num_workers: int, start: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Return a pool of fresh interpreters, which end when this process does, even where it is killed.

    Without that a worker whose parent was killed waits for work for ever, since it holds both ends of its queue.
    Forking in place of fresh interpreters can hang the child of a process that has used threads (torch, OpenCV).

    Args:
        num_workers: processes, at least 1.
        start: what each calls first; it and its `arguments` can be pickled.
    """
    return ProcessPoolExecutor(num_workers, get_context("spawn"), _start_worker, (start, arguments))


def in_order(work: Callable[[int], ResultT], indices: Iterable[int], num_workers: int) -> Iterator[ResultT]:
    """Yield what `work` gives for each index, in order; OpenCV has one thread in the processes that share it.

    Args:
        work: can be pickled.
        indices: of the items.
        num_workers: processes; 0 for none but this one.

    Raises:
        InputError: a process was killed.
    """
    if num_workers == 0:
        yield from map(work, indices)
        return
    with open_pool(num_workers, _start, work) as executor:
        try:
            yield from executor.map(_call, indices, chunksize=_CHUNK)
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process ended, most likely for want of memory, or because the script that calls this has no "
                "`if __name__ == '__main__'`; run again with a smaller num_workers, or 0, which starts none (files "
                "that are written whole are kept)"
            ) from error


def choose_num_workers(num_images: int, images_per_worker: int) -> int:
    """Return as many processes as there are cores, fewer where each would get too few images; 0 in place of 1."""
    num_workers = min(num_cores(), num_images // images_per_worker)
    return num_workers if num_workers > 1 else 0


def _start_worker(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # at once: this thread cannot end the others in another way, and files are written atomically


def _start(work: Callable[[int], Any]) -> None:
    global _work
    cv2.setNumThreads(1)
    _work = work


def _call(index: int) -> Any:
    return _work(index)
