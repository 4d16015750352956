"""Batches of views, drawn in loader processes."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from densessl.data.view_batches import collate_views, unpack_views
from densessl.data.views import PairedViews, SampleKey
from densessl.errors import InputError
from densessl.machine import loader_processes
from densessl.structures import LocalViews, ViewBatch
from densessl.training.sampler import BatchSampler

CPU = torch.device("cpu")

View = TypeVar("View")
Batch = TypeVar("Batch")


def load_batches(
    views: PairedViews, sampler: BatchSampler, num_workers: int, device: torch.device = CPU
) -> Iterator[tuple[ViewBatch, int]]:
    """Yield batches of the sampler's images, each with the number of images that were passed over for it.

    Args:
        views: draws the views; an `InputError` raised in a loader process comes out with its own message.
        sampler: which image goes into which batch.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in this process.
        device: where the batches are wanted. They travel there as bytes and are normalised there.
    """
    for packed in draw_batches(views, sampler, num_workers, collate_views, device):
        yield unpack_views(packed, device), packed.num_replaced


def draw_batches(
    views: Dataset[View],
    sampler: Sampler[list[SampleKey]],
    num_workers: int,
    collate: Callable[[list[View]], Batch],
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Yield batches of the sampler's views, in the memory from which `device` copies them fastest.

    Arguments as for `load_batches`; `collate` makes a batch of its views.
    """
    loader = DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=loader_processes(num_workers, most=4),
        collate_fn=collate,
        worker_init_fn=_start_worker,
        pin_memory=device.type == "cuda",
    )
    try:
        yield from loader
    except InputError as error:
        error.__traceback__ = None  # it holds the loader in a cycle, whose late collection waits for every process
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from error


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def split_batch(batch: ViewBatch, num_parts: int) -> list[ViewBatch]:
    """Cut a batch into parts of as many images, give or take one; fewer parts where there are fewer images."""
    num_parts = min(num_parts, len(batch.stems))
    if num_parts == 1:
        return [batch]
    parts = np.array_split(np.arange(len(batch.stems)), num_parts)
    return [_part(batch, int(rows[0]), int(rows[-1]) + 1) for rows in parts]


def _part(batch: ViewBatch, first: int, end: int) -> ViewBatch:
    local = None
    if batch.local is not None:
        views = batch.local
        confidence = None if views.confidence is None else views.confidence[:, first:end]
        local = LocalViews(views.images[:, first:end], views.masks[:, first:end], confidence)
    return ViewBatch(
        query_images=batch.query_images[first:end],
        query_masks=batch.query_masks[first:end],
        key_images=batch.key_images[first:end],
        key_masks=batch.key_masks[first:end],
        stems=batch.stems[first:end],
        local=local,
        query_confidence=None if batch.query_confidence is None else batch.query_confidence[first:end],
        key_confidence=None if batch.key_confidence is None else batch.key_confidence[first:end],
    )
