"""Training views of images with label maps, such as pseudo-labels, as targets."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from densessl.data.images import read_image
from densessl.data.label_maps import read_label_map
from densessl.data.view_settings import ViewSettings
from densessl.data.view_transforms import geometric_transform, photometric_transform
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageRef, LabelMap, LabelReader


class LabelView(NamedTuple):
    """image: float32 (3, size, size), normalised. target: uint8 (size, size), class indices and `IGNORE`."""

    image: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True)
class LabelFolder:
    """Reads the label map `<stem>.png` of an image from a folder."""

    folder: Path

    def __call__(self, ref: ImageRef) -> LabelMap:
        return read_label_map(self.folder / f"{ref.stem}.png")


class LabelViews(Dataset[LabelView]):
    """Draws one augmented view of an image and its label map; the same `SampleKey` always gives the same view.

    `labels` reads the label map of each image, of the image's size, with values up to 255.
    """

    def __init__(self, images: tuple[ImageRef, ...], labels: LabelReader, settings: ViewSettings) -> None:
        self.images = images
        self.labels = labels
        self._geometric = geometric_transform(settings)
        self._photometric = photometric_transform(settings)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> LabelView:  # type: ignore[override]
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        ref = self.images[key.index]
        image = read_image(ref.path)
        target = self.labels(ref).astype(np.uint8)
        if target.shape != image.shape[:2]:
            raise InputError(f"label map of image {ref.path} is {target.shape}, the image {image.shape[:2]}")
        self._geometric.set_random_seed(int(generator.integers(2**31)))
        view = self._geometric(image=image, mask=target)
        self._photometric.set_random_seed(int(generator.integers(2**31)))
        pixels = self._photometric(image=view["image"])["image"]
        return LabelView(
            torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            torch.from_numpy(np.ascontiguousarray(view["mask"])),
        )


def collate_labels(views: list[LabelView]) -> LabelView:
    """Stack views into a batch."""
    return LabelView(torch.stack([view.image for view in views]), torch.stack([view.target for view in views]))
