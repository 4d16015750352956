"""Masks as runs of pixels, column by column: what automatic masks are kept as, of any image size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from densessl.structures import MaskArray

Positions = NDArray[np.int64]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class MaskRuns:
    """The runs of a mask's pixels in column-major order, as in COCO's run lengths: pixel (y, x) is at x * height + y.

    size: height and width. starts, ends: int64 (num_runs,), ascending, the end exclusive; no run touches the next.
    """

    size: tuple[int, int]
    starts: Positions
    ends: Positions

    @property
    def area_px(self) -> int:
        return int((self.ends - self.starts).sum())

    @property
    def box(self) -> Box:
        """The smallest box around the mask, `(x0, y0, x1, y1)`, upper bound exclusive; zeros for an empty mask."""
        if not len(self.starts):
            return 0, 0, 0, 0
        height, last = self.size[0], self.ends - 1
        x0, x1 = int(self.starts[0]) // height, int(last[-1]) // height + 1
        if (self.starts // height != last // height).any():  # a run that goes on in the next column
            return x0, 0, x1, height
        return x0, int((self.starts % height).min()), x1, int((last % height).max()) + 1

    def mask(self) -> MaskArray:
        """Return the mask, bool (height, width)."""
        height, width = self.size
        steps = np.zeros(height * width + 1, dtype=np.int8)
        steps[self.starts] = 1
        steps[self.ends] -= 1
        return steps[:-1].cumsum(dtype=np.int8).astype(np.bool_).reshape(width, height).T

    def counts(self) -> Positions:
        """Return COCO's run lengths: background and foreground in turn, background (which may be 0) first."""
        bounds = np.stack([self.starts, self.ends], axis=1).ravel()
        lengths = np.diff(bounds, prepend=0, append=self.size[0] * self.size[1])
        return lengths if lengths[-1] or len(lengths) == 1 else lengths[:-1]

    def coco(self) -> dict[str, Any]:
        """Return COCO's compressed run lengths, `{"size": [height, width], "counts": text}`."""
        size = list(self.size)
        encoded = coco_mask.frPyObjects({"size": size, "counts": self.counts().tolist()}, *self.size)
        return {"size": size, "counts": encoded["counts"].decode("ascii")}

    def inverse(self) -> "MaskRuns":
        """Return the runs of the background."""
        bounds = np.concatenate(
            [[0], np.stack([self.starts, self.ends], axis=1).ravel(), [self.size[0] * self.size[1]]]
        )
        starts, ends = bounds[::2], bounds[1::2]
        kept = starts < ends
        return MaskRuns(self.size, starts[kept], ends[kept])

    def by_column(self) -> "MaskRuns":
        """Return the same mask in runs that end at the end of their column at the latest, so that they may touch."""
        height = self.size[0]
        num_columns = (self.ends - 1) // height - self.starts // height + 1
        run = np.repeat(np.arange(len(self.starts)), num_columns)
        nth = np.arange(len(run)) - np.repeat(num_columns.cumsum() - num_columns, num_columns)
        column = self.starts[run] // height + nth
        starts = np.maximum(self.starts[run], column * height)
        return MaskRuns(self.size, starts, np.minimum(self.ends[run], (column + 1) * height))

    def joined(self) -> "MaskRuns":
        """Return the same mask with runs that touch made one."""
        is_first = np.ones(len(self.starts), dtype=np.bool_)
        is_first[1:] = self.starts[1:] > self.ends[:-1]
        return MaskRuns(self.size, self.starts[is_first], self.ends[np.roll(is_first, -1)])

    def placed(self, crop: Box, image_size: tuple[int, int]) -> "MaskRuns":
        """Return the mask of a crop, `(x0, y0, x1, y1)`, as a mask of the whole image."""
        if self.size == image_size:
            return self
        columns, height = self.by_column(), self.size[0]
        column = columns.starts // height
        shift = (column + crop[0]) * image_size[0] + crop[1] - column * height
        return MaskRuns(image_size, columns.starts + shift, columns.ends + shift).joined()


def runs_of(mask: MaskArray) -> MaskRuns:
    """Return the runs of a mask, bool (height, width)."""
    height, width = mask.shape
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=False))
    return MaskRuns((height, width), changes[::2], changes[1::2])
