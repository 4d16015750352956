"""Batches of views, drawn in loader processes."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from densessl.data.views import PairedViews, collate_views
from densessl.errors import InputError
from densessl.structures import ViewBatch
from densessl.training.sampler import BatchSampler

View = TypeVar("View")
Batch = TypeVar("Batch")


def load_batches(views: PairedViews, sampler: BatchSampler, num_workers: int) -> Iterator[tuple[ViewBatch, int]]:
    """Yield batches of the sampler's images, each with the number of images that were passed over for it.

    Args:
        views: draws the views; an `InputError` raised in a loader process comes out with its own message.
        sampler: which image goes into which batch.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in this process.
    """
    return draw_batches(views, sampler, num_workers, collate_views)


def draw_batches(
    views: Dataset[View], sampler: BatchSampler, num_workers: int, collate: Callable[[list[View]], Batch]
) -> Iterator[Batch]:
    """Yield batches of the sampler's views; arguments as for `load_batches`, `collate` makes a batch of its views."""
    if num_workers < 0:
        num_workers = min(4, torch.get_num_threads())
    loader = DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
    )
    try:
        yield from loader
    except InputError as error:
        error.__traceback__ = None  # it holds the loader in a cycle, whose late collection waits for every process
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from error


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
