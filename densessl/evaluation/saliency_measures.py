"""How well one saliency map agrees with one mask, by counting pixels: MAE, F-measure, E-measure, IoU, accuracy.

A map becomes a mask by a threshold, and all but MAE follow from how many pixels of the ground truth's foreground and
background the mask covers. Ignored pixels are left out of every count, sum and mean. Without ignored pixels the values
are those of the field's usual evaluation code (PySODMetrics), whose quirks are named where they occur.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.structures import MaskArray

NUM_LEVELS = 256
"""Thresholds of a curve: 0, 1/255, ..., 1."""

BETA_SQUARED = 0.3
"""Weight of recall against precision in the F-measure (Achanta et al., CVPR 2009)."""

EPSILON = float(np.spacing(1.0))

Counts = NDArray[np.int64]  # one count, or one for each threshold (256,)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SaliencyPair:
    """A saliency map and its ground truth, checked and ready to be scored; made by `prepare_pair`.

    saliency: (height, width), in [0, 1]; 0 at ignored pixels.
    foreground: (height, width); false at ignored pixels.
    valid: (height, width), false at ignored pixels; `None` where there are none.
    values, is_foreground: the two maps at the valid pixels alone, (num_valid,).
    """

    saliency: FloatArray
    foreground: MaskArray
    valid: MaskArray | None
    values: FloatArray = field(repr=False)
    is_foreground: MaskArray = field(repr=False)


@dataclass(frozen=True)
class ThresholdCounts:
    """What masks of one map cover of the ground truth.

    true_positives, false_positives: foreground and background pixels in the mask, one number for each threshold.
    num_foreground, num_background: pixels of the ground truth.
    """

    true_positives: Counts
    false_positives: Counts
    num_foreground: int
    num_background: int

    @property
    def num_positives(self) -> Counts:
        return self.true_positives + self.false_positives

    @property
    def num_union(self) -> Counts:
        return self.false_positives + self.num_foreground


def prepare_pair(
    saliency: NDArray[np.floating],
    foreground: MaskArray,
    valid: MaskArray | None = None,
    *,
    normalize: bool = True,
) -> SaliencyPair:
    """Check a saliency map against its ground truth and bring both into the form in which they are scored.

    saliency: (height, width), in [0, 1]. foreground: bool, same shape. valid: bool, false at the pixels to ignore.
    normalize: stretch the map linearly so that its valid pixels span 0 to 1, as the field's evaluation code does; a
        constant map stays as it is.

    Raises `InputError` for shapes that differ, for values outside [0, 1], and where no pixel is valid.
    """
    shapes = {saliency.shape, foreground.shape} | ({valid.shape} if valid is not None else set())
    if len(shapes) > 1 or saliency.ndim != 2:
        raise InputError(
            f"saliency map, foreground{'' if valid is None else ' and valid pixels'} have the shapes "
            f"{', '.join(map(str, sorted(shapes)))}; all must have one shape (height, width): resize the map"
        )
    if valid is not None and valid.all():
        valid = None
    values = (saliency.ravel() if valid is None else saliency[valid]).astype(np.float64)
    if values.size == 0:
        raise InputError("all pixels are ignored, so there is nothing to score; leave this image out")
    low, high = float(values.min()), float(values.max())  # NaN anywhere makes both NaN
    if not (low >= 0 and high <= 1):
        raise InputError(f"saliency values run from {low:g} to {high:g}; they must lie in [0, 1]: scale them first")
    if normalize and low < high:
        values = (values - low) / (high - low)
    if valid is None:
        shaped = values.reshape(saliency.shape)
        return SaliencyPair(shaped, foreground, None, values, foreground.ravel())
    shaped = np.zeros(saliency.shape)
    shaped[valid] = values
    return SaliencyPair(shaped, foreground & valid, valid, values, foreground[valid])


def mean_absolute_error(pair: SaliencyPair) -> float:
    """Return the mean of |S - G| over the valid pixels (Perazzi et al., CVPR 2012)."""
    return float(np.abs(pair.values - pair.is_foreground).mean())


def threshold_counts(pair: SaliencyPair) -> ThresholdCounts:
    """Count for the masks `floor(255 S) >= t`, t = 0, 1, ..., 255; the counts have shape (256,), by ascending t."""
    levels = (pair.values * 255).astype(np.uint8)
    cells = levels.astype(np.intp) + NUM_LEVELS * pair.is_foreground
    histogram = np.bincount(cells, minlength=2 * NUM_LEVELS).reshape(2, NUM_LEVELS)
    off, on = histogram[:, ::-1].cumsum(axis=1)[:, ::-1].astype(np.int64)  # pixels at or above each level
    return ThresholdCounts(on, off, int(on[0]), int(off[0]))


def counts_above(pair: SaliencyPair, threshold: float) -> ThresholdCounts:
    """Count for the mask `S > threshold`."""
    return _counts_of(pair, pair.values > threshold)


def adaptive_counts(pair: SaliencyPair) -> ThresholdCounts:
    """Count for the mask `S >= min(2 mean(S), 1)` (Achanta et al., CVPR 2009).

    The mean is over the valid pixels. An all-zero map has the threshold 0 and so covers everything.
    """
    return _counts_of(pair, pair.values >= min(2 * pair.values.mean(), 1.0))


def f_measure(counts: ThresholdCounts, beta_squared: float = BETA_SQUARED) -> FloatArray:
    """Return `(1 + b) P R / (b P + R)` for each threshold, with precision P, recall R and b = `beta_squared`.

    0 where the mask meets no foreground, also where there is none (Achanta et al., CVPR 2009).
    """
    divisor = beta_squared * counts.num_foreground + counts.num_positives  # P R / (b P + R) = TP / this
    return _divide((1 + beta_squared) * counts.true_positives, divisor)


def e_measure(counts: ThresholdCounts) -> FloatArray:
    """Return the enhanced-alignment measure for each threshold (Fan et al., IJCAI 2018).

    With the deviations a, b of mask and ground truth from their means, a pixel scores `(1 + 2ab / (a^2 + b^2))^2 / 4`.
    Where the ground truth has only background (foreground), the score is the share of background (foreground) in the
    mask. The sum is divided by the number of pixels less one, as in the authors' code, so a perfect mask of N pixels
    scores N / (N - 1); a single pixel is divided by 1.
    """
    num_foreground, num_background = counts.num_foreground, counts.num_background
    num_pixels = num_foreground + num_background
    num_positives = counts.num_positives
    if num_foreground == 0:
        total = (num_pixels - num_positives).astype(np.float64)
    elif num_background == 0:
        total = num_positives.astype(np.float64)
    else:
        mask_mean, truth_mean = num_positives / num_pixels, num_foreground / num_pixels
        missed = num_foreground - counts.true_positives
        total = (
            counts.true_positives * _alignment(1 - mask_mean, 1 - truth_mean)
            + counts.false_positives * _alignment(1 - mask_mean, -truth_mean)
            + missed * _alignment(-mask_mean, 1 - truth_mean)
            + (num_background - counts.false_positives) * _alignment(-mask_mean, -truth_mean)
        )
    return total / max(num_pixels - 1, 1)


def intersection_over_union(counts: ThresholdCounts) -> FloatArray:
    """Return `TP / (TP + FP + FN)` for each threshold; 0 where mask and ground truth are both empty."""
    return _divide(counts.true_positives, counts.num_union)


def pixel_accuracy(counts: ThresholdCounts) -> FloatArray:
    """Return the share of pixels on the right side for each threshold."""
    right = counts.true_positives + counts.num_background - counts.false_positives
    return np.asarray(right / (counts.num_foreground + counts.num_background), dtype=np.float64)


def _counts_of(pair: SaliencyPair, mask: MaskArray) -> ThresholdCounts:
    num_foreground = int(np.count_nonzero(pair.is_foreground))
    on = np.int64(np.count_nonzero(mask & pair.is_foreground))
    off = np.int64(np.count_nonzero(mask)) - on
    return ThresholdCounts(np.asarray(on), np.asarray(off), num_foreground, pair.values.size - num_foreground)


def _alignment(first: FloatArray, second: float) -> FloatArray:
    return (2 * first * second / (first**2 + second**2 + EPSILON) + 1) ** 2 / 4


def _divide(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> FloatArray:
    return np.asarray(numerator / np.where(denominator == 0, 1, denominator), dtype=np.float64)
