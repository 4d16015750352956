"""The dataclasses that travel between stages, and the conventions every module follows.

Conventions (stated here once):

- Height before width: sizes are `(height, width)`. Points are `(x, y)` pixels, boxes `(x0, y0, x1, y1)` pixels,
  the upper bound exclusive.
- Decoded images are uint8 RGB arrays `(height, width, 3)`; inside networks they are float `(batch, 3, height, width)`.
- Label maps hold one class index per pixel (uint8 on disk, int64 in memory); `IGNORE` marks pixels that do not count.
- Masks are bool. Instance maps are integers: 0 is background, 1, 2, ... are the masks of one image.
- An image is known by its `stem`: its path below the data set's image folder without the suffix, with `/` between
  parts (`"cats/0001"`). Every stage that writes one file per image writes `<folder>/<stem>.<suffix>`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

IGNORE = 255
"""Label value of pixels that are left out of training targets and scores."""

ImageArray = NDArray[np.uint8]  # (height, width, 3), RGB
LabelMap = NDArray[np.int64]  # (height, width), class index or IGNORE
MaskArray = NDArray[np.bool_]  # (height, width)
InstanceMap = NDArray[np.int64]  # (height, width), 0 background, 1.. masks


@dataclass(frozen=True)
class ImageRef:
    """One image of a data set: its stem (see the module docstring) and its file."""

    stem: str
    path: Path

    @property
    def file_name(self) -> str:
        """The file's path below the data set's image folder, with `/` between parts."""
        return f"{self.stem}{self.path.suffix}"


LabelReader = Callable[[ImageRef], LabelMap]
"""Returns the label map of an image at the image's native size; raises `InputError` where it is unusable."""


@dataclass(frozen=True)
class ImageSet:
    """The images of one split of a data set, sorted by stem, and how to read their labels where there are any."""

    name: str
    images: tuple[ImageRef, ...]
    class_names: tuple[str, ...] = ()
    labels: LabelReader | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ImageShare:
    """The images that this process works on where several processes share them: one of consecutive parts.

    number, num_parts: which part, counted from 0, of how many; by default a process has all images.
    gather: calls a function in this process and returns what it gave in each process, in the order of the parts. All
        processes call it, equally often, and an `InputError` of one is raised in all.
    """

    number: int = 0
    num_parts: int = 1
    gather: Callable[[Callable[[], Any]], list[Any]] = lambda compute: [compute()]

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.number == 0

    def own(self, stems: Sequence[str]) -> Sequence[str]:
        """Return this process's part of the images."""
        first, stop = (number * len(stems) // self.num_parts for number in (self.number, self.number + 1))
        return stems[first:stop]


ALL_IMAGES = ImageShare()
"""The share of a process that works alone."""


@dataclass(frozen=True)
class Rejection:
    """An image or a mask that a stage left out, and why."""

    stem: str
    reason: str


@dataclass(frozen=True)
class Proposal:
    """One mask proposed in an image: where it is and how sure the estimator was.

    `score` is the mean of the soft map over the mask, in [0, 1]; `box` is `(x0, y0, x1, y1)` pixels, upper bound
    exclusive; `touches_border` says whether the mask reaches the image's edge.
    """

    mask: MaskArray
    score: float
    area_px: int
    box: tuple[int, int, int, int]
    touches_border: bool


@dataclass(frozen=True)
class ImageProposals:
    """What a saliency estimator says of one image: soft map, mask, and its parts or the image's segments."""

    stem: str
    soft: NDArray[np.float32]  # (height, width), in [0, 1]
    foreground: MaskArray
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True)
class LocalViews:
    """Further, smaller crops of the images of a batch, with their instance maps.

    images: float (num_local, batch, 3, height, width), normalised.
    masks: int64 (num_local, batch, height, width), numbered as in the other views of the image.
    confidence: float, shaped as the masks, as in `ViewBatch`.
    """

    images: torch.Tensor
    masks: torch.Tensor
    confidence: torch.Tensor | None = None


@dataclass(frozen=True)
class ViewBatch:
    """Two augmented views of a batch of images, with their instance maps.

    query_images, key_images: float (batch, 3, height, width), normalised.
    query_masks, key_masks: int64 (batch, height, width); 0 background, 1.. the masks of that image (same numbers
    in both views).
    local: local crops of the images of the query views, where the recipe has them.
    query_confidence, key_confidence: float (batch, height, width), in [0, 1], how sure the masks are of each pixel
    (|2p - 1| of a soft map p), where the recipe asks for it.
    """

    query_images: torch.Tensor
    query_masks: torch.Tensor
    key_images: torch.Tensor
    key_masks: torch.Tensor
    stems: tuple[str, ...]
    local: LocalViews | None = None
    query_confidence: torch.Tensor | None = None
    key_confidence: torch.Tensor | None = None


@dataclass(frozen=True)
class Provenance:
    """Which labels touched a result, said in words, for cards and reports."""

    backbone: str = "none (random weights)"
    masks: str = "none"
    selection: str = "none in this run (last epoch); docs/decisions.md says which labels the shipped recipes saw"
    matching: str = "none"
    notes: tuple[str, ...] = field(default=())
