"""Single views of images, numbered, for those that are encoded once and trained on often."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from densessl.data.views import PairedViews, SampleKey


class SingleView(NamedTuple):
    """A view of an image: image uint8 (3, size, size), RGB; mask bool (size, size); whether it can be used."""

    image: torch.Tensor
    mask: torch.Tensor
    is_usable: bool


class SingleViews(Dataset[SingleView]):
    """Draws view `epoch` of image `index` of a `SampleKey`, as those of pairs are drawn; the masks count as one.

    A view that is not two-sided after `max_tries` draws is unusable: its mask, or what it stands for, may be empty.
    """

    def __init__(self, views: PairedViews) -> None:
        self.views = views

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, key: SampleKey) -> SingleView:  # type: ignore[override]
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        image, mask, is_usable = self.views.draw_view(key.index, generator)
        return SingleView(image, mask > 0, is_usable)


class ConsecutiveKeys(Sampler[list[SampleKey]]):
    """Yields one view of every image, in order, in batches; `number` is that of the view."""

    def __init__(self, num_images: int, batch_size: int, seed: int, number: int) -> None:
        self.num_images, self.batch_size, self.seed, self.number = num_images, batch_size, seed, number

    def __len__(self) -> int:
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for start in range(0, self.num_images, self.batch_size):
            stop = min(start + self.batch_size, self.num_images)
            yield [SampleKey(self.seed, self.number, index) for index in range(start, stop)]


def collate_single(views: Sequence[SingleView]) -> SingleView:
    """Stack views into a batch; `is_usable` becomes a bool tensor (batch,)."""
    return SingleView(
        torch.stack([view.image for view in views]),
        torch.stack([view.mask for view in views]),
        torch.tensor([view.is_usable for view in views]),  # type: ignore[arg-type]
    )
