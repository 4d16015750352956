"""Images and their objects as promptable training takes them: in the model's frame, some objects drawn as targets."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from densessl.data.images import image_size, read_image
from densessl.data.object_masks import ChosenObjects
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.promptable.framing import Frame, frame_image, frame_of
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.structures import ImageRef, MaskArray

MOST_OBJECTS = 64
"""Of an image that are looked at; of more, the smallest are left out."""


class StoredEncodings(Protocol):
    """Encoded images on disk (`densessl.training.stored_features`)."""

    def read(self, stem: str, *, is_flipped: bool) -> tuple[torch.Tensor, ...] | None:
        """Return the features of an image, (channels, h, w) each, `None` where they are not stored."""
        ...


class ObjectView(NamedTuple):
    """One image with its objects.

    image: float (3, side, side), framed and normalised; None where `features` are stored, (channels, h, w) each.
    masks: bool (num_objects, height, width), in cells of the frame, the largest object first.
    boxes: float (num_objects, 4), `(x0, y0, x1, y1)` in pixels of the frame.
    targets: int64 (num_prompts,), the object that each prompt is for.
    extent: float (2,), width and height of the image in the frame.
    """

    image: torch.Tensor | None
    features: tuple[torch.Tensor, ...] | None
    masks: torch.Tensor
    boxes: torch.Tensor
    targets: torch.Tensor
    extent: torch.Tensor


class ObjectBatch(NamedTuple):
    """Images with their objects, those of all images in one list; as in `ObjectView`.

    images: float (num_encoded_here, 3, side, side), those at the places `image_places` of the batch; the features of
    the others, at `stored_places`, are in `features`, (num_stored, channels, h, w) each. image_of_mask: int64
    (num_masks,). targets: int64 (num_prompts,), rows of `masks`. extents: float (batch, 2).
    """

    images: torch.Tensor
    image_places: torch.Tensor
    features: tuple[torch.Tensor, ...]
    stored_places: torch.Tensor
    masks: torch.Tensor
    image_of_mask: torch.Tensor
    boxes: torch.Tensor
    targets: torch.Tensor
    extents: torch.Tensor


@dataclass(frozen=True)
class ViewChoice:
    """How images become views.

    objects_per_image: objects of an image that are targets, all if it has fewer. prompts_per_object: prompts for each
    of them. flip: mirror every second image, left to right. cell_px: pixels of the frame in a cell of the masks.
    """

    objects_per_image: int
    prompts_per_object: int
    flip: bool
    cell_px: int


class ObjectViews(Dataset[ObjectView]):
    """Draws the view of an image and the targets in it; the same `SampleKey` always gives the same, in any process."""

    def __init__(
        self,
        images: tuple[ImageRef, ...],
        objects: ChosenObjects,
        settings: PromptableSettings,
        choice: ViewChoice,
        stored: StoredEncodings | None = None,
    ) -> None:
        if settings.padding != "square":
            raise InputError(
                "model.padding is stride, which gives every image its own frame, so that they make no batch; train "
                "with padding square"
            )
        self.images, self.objects, self.settings, self.choice, self.stored = images, objects, settings, choice, stored

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> ObjectView:  # type: ignore[override]
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        is_flipped = bool(self.choice.flip and generator.random() < 0.5)
        ref = self.images[key.index]
        features = None if self.stored is None else self.stored.read(ref.stem, is_flipped=is_flipped)
        image = None
        if features is None:
            image, frame = framed_image(ref, self.settings, is_flipped=is_flipped)
        else:
            frame = frame_of(image_size(ref.path), self.settings)
        masks = self.objects.read(ref, frame.image_size)[:MOST_OBJECTS]
        if not masks:
            raise InputError(f"image {ref.stem} has no object (any more); leave it out of the training")
        if is_flipped:
            masks = tuple(np.ascontiguousarray(mask[:, ::-1]) for mask in masks)
        chosen = generator.permutation(len(masks))[: self.choice.objects_per_image]
        return ObjectView(
            image,
            features,
            torch.from_numpy(np.stack([mask_cells(mask, frame, self.choice.cell_px) for mask in masks])),
            torch.from_numpy(np.stack([box_in_frame(mask, frame) for mask in masks])),
            torch.from_numpy(np.repeat(chosen, self.choice.prompts_per_object)),
            torch.tensor(frame.scaled_size[::-1], dtype=torch.float32),
        )


def framed_image(ref: ImageRef, settings: PromptableSettings, *, is_flipped: bool) -> tuple[torch.Tensor, Frame]:
    """Read an image, mirror it if asked for, and lay it into the frame; (3, side, side), normalised."""
    image = read_image(ref.path)
    return frame_image(np.ascontiguousarray(image[:, ::-1]) if is_flipped else image, settings)


def mask_cells(mask: MaskArray, frame: Frame, cell_px: int) -> MaskArray:
    """Bring a mask (height, width) of the image to the cells of the frame: those of which it covers half at least.

    Of a mask that covers half of no cell, those that it covers most are taken, so that none is empty.
    """
    height, width = frame.scaled_size
    is_smaller = height < mask.shape[0]
    scaled = cv2.resize(
        mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    )
    covered = np.zeros(frame.padded_size, dtype=np.float32)
    covered[:height, :width] = scaled
    rows, columns = (side // cell_px for side in frame.padded_size)
    cells = cv2.resize(covered, (columns, rows), interpolation=cv2.INTER_AREA)
    return cells >= min(0.5, float(cells.max()))


def box_in_frame(mask: MaskArray, frame: Frame) -> NDArray[np.float32]:
    """Return the box (4,) around a mask of the image, `(x0, y0, x1, y1)` in pixels of the frame."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)
    return frame.boxes_to_frame(box).astype(np.float32)


def collate_objects(views: list[ObjectView]) -> ObjectBatch:
    """Put views into a batch; `targets` then count through the masks of all images."""
    first_mask = np.cumsum([0, *(len(view.masks) for view in views)])
    here = [place for place, view in enumerate(views) if view.features is None]
    stored = [place for place, view in enumerate(views) if view.features is not None]
    images = [view.image for view in views if view.image is not None]
    features = [view.features for view in views if view.features is not None]
    return ObjectBatch(
        torch.stack(images) if images else torch.zeros(0),
        torch.tensor(here, dtype=torch.int64),
        tuple(torch.stack(maps) for maps in zip(*features, strict=True)),
        torch.tensor(stored, dtype=torch.int64),
        torch.cat([view.masks for view in views]),
        torch.cat([torch.full((len(view.masks),), place) for place, view in enumerate(views)]),
        torch.cat([view.boxes for view in views]),
        torch.cat([view.targets + int(first) for view, first in zip(views, first_mask, strict=False)]),
        torch.stack([view.extent for view in views]),
    )
