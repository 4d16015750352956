"""Brings a mask's logits to the image's size in bands of columns, so that no image is too large for the memory.

What `restore_logits` does to whole masks is done here to one axis after the other, only where the mask can be, and
counted and turned into runs band by band. Equal to it but for the order in which sums are rounded.
"""

from dataclasses import dataclass

import numpy as np
import torch

from densessl.promptable.framing import Frame
from densessl.promptable.mask_runs import MaskRuns, Positions

BAND_VALUES = 2**18
"""Restored logits that are held at a time (1 MiB), unless one column of the image has more."""

_SLACK = 1e-4
"""Far above what rounding can add to logits that interpolation brings no higher than their neighbours."""


@dataclass(frozen=True)
class RestoredMask:
    """A mask at the image's size, and its stability: the share of pixels above +offset among those above -offset."""

    runs: MaskRuns
    stability: float


@dataclass(frozen=True)
class AxisSteps:
    """The two steps of bilinear interpolation along one axis: from the decoder's cells to the frame, to the image.

    Each step has, for every sample of its result, the two samples that it is made of and the weights of both.
    """

    to_frame: "Taps"
    to_image: "Taps"

    def apply(self, values: torch.Tensor, span: slice) -> torch.Tensor:
        """Interpolate values (num_cells, n) along their first axis; returns the samples `span` of the image."""
        wanted = self.to_image.only(span)
        low, high = int(wanted.first.min()), int(wanted.second.max()) + 1
        in_frame = self.to_frame.only(slice(low, high)).mix(values)
        return Taps(wanted.first - low, wanted.second - low, wanted.weight).mix(in_frame)

    def reached(self, is_inside: torch.Tensor) -> slice:
        """Return the samples of the image that any of the marked cells, bool (num_cells,), takes part in."""
        in_frame = is_inside[self.to_frame.first] | is_inside[self.to_frame.second]
        found = torch.nonzero(in_frame[self.to_image.first] | in_frame[self.to_image.second]).flatten()
        return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


@dataclass(frozen=True)
class Taps:
    """Pairs of samples and the weight of the second: int64, int64 and float32 (num_samples,)."""

    first: torch.Tensor
    second: torch.Tensor
    weight: torch.Tensor

    def only(self, span: slice) -> "Taps":
        return Taps(self.first[span], self.second[span], self.weight[span])

    def mix(self, values: torch.Tensor) -> torch.Tensor:
        weight = self.weight[:, None]
        return torch.addcmul(values[self.first] * (1 - weight), values[self.second], weight)


@dataclass(frozen=True)
class MaskRestorer:
    """What all masks of an image, or crop, share: the interpolation of both axes, and its size."""

    rows: AxisSteps
    columns: AxisSteps
    image_size: tuple[int, int]

    def restore(self, logits: torch.Tensor, offset: float) -> RestoredMask:
        """Restore one mask: logits (4 h, 4 w) of the decoder, float32. offset: of the stability, not negative."""
        can_be = logits > -offset - _SLACK
        rows, columns = self.rows.reached(can_be.any(1)), self.columns.reached(can_be.any(0))
        if rows.start == rows.stop or columns.start == columns.stop:
            return RestoredMask(MaskRuns(self.image_size, *_no_runs()), 0.0)
        by_column = self.rows.apply(logits, rows).T.contiguous()  # (cells, rows)
        num_rows = rows.stop - rows.start
        step = max(1, BAND_VALUES // num_rows)
        inner = outer = 0
        starts, ends = [], []
        for start in range(columns.start, columns.stop, step):
            band = slice(start, min(start + step, columns.stop))
            restored = self.columns.apply(by_column, band)  # (columns, rows)
            inner += int((restored > offset).sum())
            outer += int((restored > -offset).sum())
            found = _runs(restored > 0, rows.start, band.start, self.image_size[0])
            starts.append(found[0])
            ends.append(found[1])
        runs = MaskRuns(self.image_size, np.concatenate(starts), np.concatenate(ends)).joined()
        stability = np.float32(inner) / np.float32(outer) if outer else np.float32(0)
        return RestoredMask(runs, float(stability))


def mask_restorer(frame: Frame, grid: tuple[int, int], device: torch.device) -> MaskRestorer:
    """Prepare to restore masks. frame: of the image. grid: height and width of the decoder's masks."""
    rows, columns = (
        AxisSteps(
            _taps(cells, padded, device).only(slice(0, scaled)),
            _taps(scaled, size, device),
        )
        for cells, padded, scaled, size in zip(
            grid, frame.padded_size, frame.scaled_size, frame.image_size, strict=True
        )
    )
    return MaskRestorer(rows, columns, frame.image_size)


def _taps(num_in: int, num_out: int, device: torch.device) -> Taps:
    """Return the taps of torch's bilinear interpolation, computed as there in float32: source position
    (i + 1/2) in / out - 1/2, no lower than 0.
    """
    scale = torch.tensor(num_in, dtype=torch.float32) / num_out
    position = ((torch.arange(num_out) + 0.5) * scale - 0.5).clamp_min(0)
    first = position.long().clamp_max(num_in - 1)
    weight = (position - first).clamp(0, 1)
    return Taps(first.to(device), (first + 1).clamp_max(num_in - 1).to(device), weight.to(device))


def _runs(mask: torch.Tensor, first_row: int, first_column: int, height: int) -> tuple[Positions, Positions]:
    """Return starts and ends of the runs of a part of a mask, (columns, rows), none longer than a column."""
    num_rows = mask.shape[1]
    padded = np.zeros((mask.shape[0], num_rows + 1), dtype=np.int8)  # one row of background ends each column
    padded[:, :num_rows] = mask.cpu().numpy()
    changes = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0)))
    column, row = np.divmod(changes, num_rows + 1)
    places = (column + first_column) * height + row + first_row
    return places[::2], places[1::2]


def _no_runs() -> tuple[Positions, Positions]:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
