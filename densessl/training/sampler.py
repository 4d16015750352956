"""Which image goes into which batch: a function of seed, epoch and step, so that a resumed run goes on exactly."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from lightning_fabric import Fabric
from torch.utils.data import Sampler

from densessl.data.views import SampleKey
from densessl.errors import InputError


class BatchSampler(Sampler[list[SampleKey]]):
    """Yields this process's share of every batch from `first_step` to the end of training.

    Each epoch is a permutation drawn from (seed, epoch). A batch of the whole job is cut into shares by rank, in
    order and equal but for one image, so that what the ranks gather stands as one process would have it; the last
    incomplete batch of an epoch is dropped. Where there are fewer images than `batch_size`, an epoch is one batch of
    them all.

    Raises:
        InputError: fewer images in a batch than processes.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        epochs: int,
        seed: int,
        *,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        if self.images_per_step < world_size:
            raise InputError(
                f"a batch of {self.images_per_step} images cannot be shared by {world_size} processes; raise "
                "training.batch_size, give more images, or start fewer processes"
            )
        self.epochs = epochs
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.world_size = world_size

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch, at least 1."""
        return max(1, self.num_images // self.batch_size)

    @property
    def images_per_step(self) -> int:
        """Number of images of a batch over all processes."""
        return min(self.num_images, self.batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch * self.epochs - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order_epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.first_step, self.steps_per_epoch * self.epochs):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
                order_epoch = epoch
            batch = order[position * self.batch_size : (position + 1) * self.batch_size]
            share = np.array_split(batch, self.world_size)[self.rank]
            yield [SampleKey(self.seed, epoch, int(index)) for index in share]


class Schedule(Protocol):
    """Settings of a training that say how often and how many at once images are seen."""

    @property
    def batch_size(self) -> int: ...
    @property
    def epochs(self) -> int: ...


def sampler_of(fabric: Fabric, num_images: int, training: Schedule, seed: int, first_step: int) -> BatchSampler:
    """Return the sampler of this process's share of a training from `first_step` on."""
    return BatchSampler(
        num_images,
        training.batch_size,
        training.epochs,
        seed,
        first_step=first_step,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
