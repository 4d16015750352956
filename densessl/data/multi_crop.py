"""Multi-crop views: two global and several local crops of an image, as self-distillation wants them."""

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from densessl.data.images import image_size, read_image
from densessl.data.multi_crop_settings import MultiCropSettings
from densessl.data.normalisation import normalise_bytes
from densessl.data.view_sources import source_size
from densessl.data.view_transforms import crop_transform
from densessl.data.views import SampleKey
from densessl.structures import ImageArray, ImageRef

if TYPE_CHECKING:
    import albumentations


class MultiCrops(NamedTuple):
    """The crops of an image or, stacked along the second axis, of a batch of images.

    global_crops: (2, [batch,] 3, size, size). local_crops: (num_local, [batch,] 3, local size, local size).
    They are uint8 RGB until `unpack_crops` normalises them.
    """

    global_crops: torch.Tensor
    local_crops: torch.Tensor


class MultiCropViews(Dataset[MultiCrops]):
    """Draws the crops of images; the same `SampleKey` always gives the same crops, in any process."""

    def __init__(self, images: tuple[ImageRef, ...], settings: MultiCropSettings) -> None:
        self.images = images
        self.settings = settings
        self._first_global = crop_transform(settings.global_view, settings, blur=settings.first_blur)
        self._second_global = crop_transform(
            settings.global_view, settings, blur=settings.second_blur, solarise=settings.solarise
        )
        self._local = crop_transform(settings.local_view, settings, blur=settings.local_blur)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> MultiCrops:  # type: ignore[override]
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        image = self._read(key.index)
        global_crops = [_draw(image, kind, generator) for kind in (self._first_global, self._second_global)]
        local_crops = [_draw(image, self._local, generator) for _ in range(self.settings.num_local)]
        size = self.settings.local_size_px
        empty = torch.empty(0, 3, size, size, dtype=torch.uint8)
        return MultiCrops(torch.stack(global_crops), torch.stack(local_crops) if local_crops else empty)

    def _read(self, index: int) -> ImageArray:
        path = self.images[index].path
        if not self.settings.reduce_images:
            return read_image(path)
        return read_image(path, source_size(image_size(path), self.settings.global_size_px, self.settings.finest_scale))


def collate_crops(crops: list[MultiCrops]) -> MultiCrops:
    """Stack the crops of several images into a batch."""
    return MultiCrops(*(torch.stack(parts, dim=1) for parts in zip(*crops, strict=True)))


def unpack_crops(crops: MultiCrops, device: torch.device) -> MultiCrops:
    """Move a batch to the device, where it is normalised by ImageNet's mean and standard deviation, as float."""
    return MultiCrops(*(normalise_bytes(part.to(device, non_blocking=True)) for part in crops))


def _draw(image: ImageArray, transform: "albumentations.Compose", generator: np.random.Generator) -> torch.Tensor:
    transform.set_random_seed(int(generator.integers(2**31)))
    return torch.from_numpy(np.stack(cv2.split(transform(image=image)["image"])))  # (3, size, size)
