"""Batches of fresh features for the published linear probe: images are augmented and encoded anew in every epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from densessl.data.images import read_image
from densessl.data.normalisation import normalise_bytes
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.evaluation.cluster_segmentation import read_label
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.framing import Framing
from densessl.evaluation.linear_schedule import FeatureBatch, epoch_batches
from densessl.structures import IGNORE, ImageArray, ImageSet, LabelMap, Rejection

FLIP = 0.5
"""Probability that an image is mirrored."""

MAX_ANGLE_DEG = 5.0
"""Images are turned by at most this, either way."""

SCALES = (0.75, 1.25)
"""Images are enlarged by a factor between these; below 1 the frame's rim is empty."""


@dataclass(frozen=True)
class Placement:
    """How an image is moved: mirrored first, then turned (counter-clockwise) and scaled about its centre."""

    is_flipped: bool
    angle_deg: float
    scale: float


def draw_placement(generator: np.random.Generator) -> Placement:
    """Draw a placement as published for MaskContrast's linear probe: each part uniformly, by itself."""
    is_flipped = bool(generator.random() < FLIP)
    return Placement(is_flipped, generator.uniform(-MAX_ANGLE_DEG, MAX_ANGLE_DEG), generator.uniform(*SCALES))


def place(image: ImageArray, labels: LabelMap, placement: Placement) -> tuple[ImageArray, LabelMap]:
    """Move an image (height, width, 3) and its label map together, at their size.

    The image is interpolated bicubically, labels by nearest neighbour. What comes from outside of the image is black
    in the image and `IGNORE` in the label map (published: black and background).
    """
    height, width = labels.shape
    if placement.is_flipped:
        image, labels = image[:, ::-1], labels[:, ::-1]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, placement.angle_deg, placement.scale)
    moved = cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_CUBIC)
    label_map = np.ascontiguousarray(labels, dtype=np.uint8)
    moved_labels = cv2.warpAffine(label_map, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORE)
    return np.asarray(moved, dtype=np.uint8), moved_labels.astype(np.int64)


class AugmentedBatches:
    """Yields the batches of an epoch: images and labels augmented together, framed, and encoded without gradient.

    Everything random follows from (seed, epoch) for the order and (seed, epoch, index) for the image, whatever the
    number of loader processes. An image that cannot be read is left out of its batches, and found in `rejected`.

    images: the training split, with labels. encoder: in evaluation mode, with the precision that it was opened with.
    framing: the frame of the images that will be scored. batch_size: images for each step. encoder_batch_size: images
    for each call of the encoder. num_workers: loader processes; with 0 nothing is read ahead.
    """

    def __init__(
        self,
        images: ImageSet,
        encoder: FeatureEncoder,
        framing: Framing,
        *,
        batch_size: int,
        seed: int,
        encoder_batch_size: int,
        num_workers: int,
    ) -> None:
        self._encoder, self._batch_size, self._seed = encoder, batch_size, seed
        self._encoder_batch_size, self._num_workers = encoder_batch_size, num_workers
        self._inputs = AugmentedImages(images, framing)
        self._rejected: dict[str, Rejection] = {}

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The images that could not be read so far, by stem."""
        return tuple(self._rejected[stem] for stem in sorted(self._rejected))

    def __call__(self, epoch: int) -> Iterator[FeatureBatch]:
        """Yield the batches of an epoch (0-based), the last incomplete one dropped.

        Raises:
            InputError: no image can be read; a label map that is missing, of another size than its image, or out of
                range (names the image).
        """
        order = epoch_batches(len(self._inputs), self._batch_size, self._seed, epoch)
        keys = [[SampleKey(self._seed, epoch, index) for index in batch] for batch in order]
        loader = DataLoader(
            self._inputs,
            batch_sampler=keys,
            num_workers=self._num_workers,
            collate_fn=list,
            worker_init_fn=_start_worker,
        )
        is_empty = True
        for items in loader:
            good = [item for item in items if isinstance(item, AugmentedImage)]
            for item in items:
                if isinstance(item, InputError):
                    raise item
                if isinstance(item, Rejection):
                    self._rejected[item.stem] = item
            if good:
                is_empty = False
                yield self._encoded(good)
        if is_empty:
            raise InputError(
                f"none of the images of epoch {epoch + 1} could be read; the first: {self.rejected[0].reason}"
            )

    @torch.no_grad()
    def _encoded(self, items: Sequence["AugmentedImage"]) -> FeatureBatch:
        parts = []
        for start in range(0, len(items), self._encoder_batch_size):
            part = torch.stack([item.image for item in items[start : start + self._encoder_batch_size]])
            parts.append(self._encoder.encode(normalise_bytes(part.to(self._encoder.device))).pixels())
        targets = torch.stack([item.labels for item in items])
        return FeatureBatch(torch.cat(parts), targets, tuple(item.stem for item in items))


@dataclass(frozen=True)
class AugmentedImage:
    """image: uint8 (3, frame height, frame width), RGB. labels: uint8 (frame height, frame width)."""

    stem: str
    image: torch.Tensor
    labels: torch.Tensor


class AugmentedImages(Dataset["AugmentedImage | Rejection | InputError"]):
    """Draws an augmented image with its labels; the same `SampleKey` always gives the same one.

    A fault is returned, not raised, so that it keeps its message across processes: a `Rejection` for an image that
    cannot be read, an `InputError` for labels that cannot be used.
    """

    def __init__(self, images: ImageSet, framing: Framing) -> None:
        self.images, self.framing = images, framing

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> "AugmentedImage | Rejection | InputError":  # type: ignore[override]
        ref = self.images.images[key.index]
        try:
            image = read_image(ref.path)
        except InputError as error:
            return Rejection(ref.stem, str(error))
        try:
            labels = read_label(self.images, ref)
        except InputError as error:
            return error
        if labels.shape != image.shape[:2]:
            return InputError(
                f"label map of image {ref.stem!r} is {labels.shape[0]}x{labels.shape[1]}, the image {image.shape[0]}x"
                f"{image.shape[1]} (height x width); make the label map at the image's size"
            )
        placement = draw_placement(np.random.default_rng([key.seed, key.epoch, key.index]))
        image, labels = place(image, labels, placement)
        framed = np.ascontiguousarray(self.framing.image(image).transpose(2, 0, 1))
        return AugmentedImage(
            ref.stem, torch.from_numpy(framed), torch.from_numpy(self.framing.labels(labels).astype(np.uint8))
        )


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
