"""Images read, framed and normalised ahead of the encoder, with the masks that belong to them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from densessl.data.images import read_image
from densessl.data.masks import MaskFolder
from densessl.data.normalisation import normalise_image
from densessl.data.view_sources import instance_map
from densessl.errors import InputError
from densessl.evaluation.framing import Framing
from densessl.structures import IGNORE, ImageArray, ImageRef, LabelReader, Rejection


@dataclass(frozen=True)
class FramedImage:
    """An image ready for the encoder.

    tensor: float32 (3, frame height, frame width), normalised by ImageNet's mean and standard deviation.
    size: native (height, width).
    instances: its masks at native size, 0 background, 1.. masks; None where none were asked for.
    """

    stem: str
    tensor: torch.Tensor
    size: tuple[int, int]
    instances: NDArray[np.uint8] | None


@dataclass(frozen=True)
class BadMask:
    """An image whose mask cannot be used."""

    stem: str
    error: InputError


@dataclass(frozen=True)
class MaskSource:
    """Where the masks of images come from; at most one of `folder` and `labels` is given.

    split_instances: count the connected regions of plain masks of the folder as masks of their own.
    labels: take the true foreground, every pixel of a class above 0, as one mask. An oracle.
    """

    folder: MaskFolder | None = None
    labels: LabelReader | None = None
    split_instances: bool = False

    def read(self, ref: ImageRef, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return the instance map of an image, None where there is no source; raises `InputError` for a bad mask."""
        if self.folder is not None:
            return instance_map(self.folder, ref, size, self.split_instances)
        if self.labels is None:
            return None
        label_map = self.labels(ref)
        if label_map.shape != size:
            raise InputError(
                f"label map of image {ref.stem!r} is {label_map.shape[0]} x {label_map.shape[1]}, the image {size[0]} "
                f"x {size[1]} (height x width); make the label map at the image's size"
            )
        return ((label_map > 0) & (label_map != IGNORE)).astype(np.uint8)


def load_framed_images(
    images: Sequence[ImageRef],
    framing: Framing,
    masks: MaskSource | None = None,
    *,
    batch_size: int,
    num_workers: int,
) -> Iterator[list[FramedImage | Rejection | BadMask]]:
    """Yield the images in order, in batches; with `num_workers` processes they are read ahead of their use.

    A broken image, or one without mask in the folder, is a `Rejection`, a mask that cannot be used a `BadMask`: a
    fault is returned, not raised, so that it keeps its message across processes.
    """
    inputs = _FramedImages(images, framing, masks or MaskSource())
    loader = DataLoader(inputs, batch_size, num_workers=num_workers, collate_fn=list, worker_init_fn=_start_worker)
    yield from loader


def frame_image(
    stem: str, image: ImageArray, framing: Framing, instances: NDArray[np.uint8] | None = None
) -> FramedImage:
    """Frame and normalise one decoded image, uint8 RGB (height, width, 3)."""
    return FramedImage(stem, normalise_image(framing.image(image)), (image.shape[0], image.shape[1]), instances)


class _FramedImages(Dataset["FramedImage | Rejection | BadMask"]):
    def __init__(self, images: Sequence[ImageRef], framing: Framing, masks: MaskSource) -> None:
        self.images, self.framing, self.masks = images, framing, masks
        self.missing = set(masks.folder.missing) if masks.folder is not None else set()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> "FramedImage | Rejection | BadMask":
        ref = self.images[index]
        if ref.stem in self.missing:
            return Rejection(ref.stem, "no mask")
        try:
            image = read_image(ref.path)
        except InputError as error:
            return Rejection(ref.stem, str(error))
        try:
            instances = self.masks.read(ref, (image.shape[0], image.shape[1]))
        except InputError as error:
            return BadMask(ref.stem, error)
        return frame_image(ref.stem, image, self.framing, instances)


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
