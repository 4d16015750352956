"""How sure a mean IoU is of its images: percentile intervals from resampled images, paired where two are compared."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.confusion import ImageCounts

CONFIDENCE = 0.95
CHUNK = 256
"""Resamples that are drawn at a time, so that memory does not grow with their number."""

RESAMPLING_RULE = (
    "images are drawn with replacement; the matching of clusters is fixed, as found on all images; a class absent from "
    "a resample is left out of its mean, and a resample without any class; images without a counted pixel are not drawn"
)


@dataclass(frozen=True)
class ImageTotals:
    """Pixel counts of each image from which the IoU of any set of images follows: int64 (num_images, num_classes).

    right: labelled and predicted as the class. labelled, predicted: of the class, among counted pixels.
    is_averaged: bool (num_classes,), the classes whose IoU the mean is of; None for all. Pixels of the others count
    where they are predicted as one of these, and so do images that hold nothing else.
    """

    right: NDArray[np.int64]
    labelled: NDArray[np.int64]
    predicted: NDArray[np.int64]
    is_averaged: NDArray[np.bool_] | None = None

    @property
    def counted(self) -> NDArray[np.int64]:
        """Counted pixels of each image; every one is labelled as one of the classes."""
        return self.labelled.sum(axis=1)


@dataclass(frozen=True)
class Bootstrap:
    """Percentile interval of the mIoU, in fractions, over `num_resamples` resamples of `num_images` images."""

    low: float
    high: float
    num_resamples: int
    num_images: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "miou_interval": [self.low, self.high],
            "confidence": CONFIDENCE,
            "num_resamples": self.num_resamples,
            "num_images": self.num_images,
            "seed": self.seed,
            "rule": RESAMPLING_RULE,
        }


@dataclass(frozen=True)
class PairedBootstrap:
    """Two predictions of the same images on the same resamples: mIoU of the first less that of the second.

    other: names the second. other_miou, difference: on all images. other_low, other_high, low, high: percentile
    intervals over resamples. better, equal: share of resamples in which the first is strictly above the second, and in
    which they are equal. All are fractions.
    """

    other: str
    other_miou: float
    other_low: float
    other_high: float
    difference: float
    low: float
    high: float
    better: float
    equal: float

    @property
    def miou(self) -> float:
        """mIoU of the first on all images, a fraction."""
        return self.other_miou + self.difference

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "predictions": self.other,
            "miou": self.other_miou,
            "miou_interval": [self.other_low, self.other_high],
            "difference": self.difference,
            "difference_interval": [self.low, self.high],
            "share_of_resamples_better": self.better,
            "share_of_resamples_equal": self.equal,
        }


def image_totals(
    images: tuple[ImageCounts, ...], rows: NDArray[np.int64], columns: NDArray[np.int64], num_classes: int
) -> ImageTotals:
    """Return the totals of each image after matching.

    rows: the class index of each label, `num_classes` where it is ignored. columns: the class index of each
    predicted value, `num_classes` where it stands for no class.
    """
    right, labelled, predicted = (np.zeros((len(images), num_classes + 1), dtype=np.int64) for _ in range(3))
    for number, image in enumerate(images):
        row, column = rows[image.labels], columns[image.predictions]
        is_counted = row < num_classes
        row, column, pixels = row[is_counted], column[is_counted], image.pixels[is_counted].astype(np.int64)
        np.add.at(labelled[number], row, pixels)
        np.add.at(predicted[number], column, pixels)
        np.add.at(right[number], row[row == column], pixels[row == column])
    return ImageTotals(right[:, :-1], labelled[:, :-1], predicted[:, :-1])


def bootstrap_miou(totals: ImageTotals, num_resamples: int, seed: int) -> Bootstrap:
    """Resample images and return the percentile interval of the mIoU (Efron and Tibshirani 1993, section 13.3).

    Raises:
        InputError: fewer than two images have counted pixels.
    """
    (miou,) = _miou_of_resamples((totals,), num_resamples, seed)
    low, high = _interval(miou)
    return Bootstrap(low, high, num_resamples, int((totals.counted > 0).sum()), seed)


def bootstrap_or_none(totals: ImageTotals, num_resamples: int, seed: int) -> Bootstrap | None:
    """Return the interval of the mIoU; None for 0 resamples, and where fewer than two images have counted pixels."""
    if num_resamples == 0 or int((totals.counted > 0).sum()) < 2:
        return None
    return bootstrap_miou(totals, num_resamples, seed)


def compare_paired(
    totals: ImageTotals, other: ImageTotals, num_resamples: int, seed: int, name: str
) -> PairedBootstrap:
    """Compare two predictions on the same resamples; with the same seed they are those of `bootstrap_miou`.

    `name` is that of the second.

    Raises:
        InputError: fewer than two images have counted pixels, or the labels of the two differ.
    """
    if not np.array_equal(totals.labelled, other.labelled):
        raise InputError(
            "the two predictions were scored on different labelled pixels; compare predictions of the same images"
        )
    first, second = _miou_of_resamples((totals, other), num_resamples, seed)
    is_defined = np.isfinite(first) & np.isfinite(second)
    first, second = first[is_defined], second[is_defined]
    whole = [_miou(np.ones((1, len(one.labelled))), one)[0] for one in (totals, other)]
    other_low, other_high = _interval(second)
    low, high = _interval(first - second)
    return PairedBootstrap(
        other=name,
        other_miou=float(whole[1]),
        other_low=other_low,
        other_high=other_high,
        difference=float(whole[0] - whole[1]),
        low=low,
        high=high,
        better=float(np.mean(first > second)),
        equal=float(np.mean(first == second)),
    )


def _miou_of_resamples(each: tuple[ImageTotals, ...], num_resamples: int, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Return the mIoU of each resample, (num_resamples,), for each of several predictions of the same images."""
    drawn = np.flatnonzero(each[0].counted > 0)
    if len(drawn) < 2:
        raise InputError(
            f"images with pixels that count: {len(drawn)}; resampling images needs at least 2: leave --bootstrap at 0, "
            "or score more images"
        )
    kept = [
        replace(one, right=one.right[drawn], labelled=one.labelled[drawn], predicted=one.predicted[drawn])
        for one in each
    ]
    found = [[_miou(chunk, one) for one in kept] for chunk in _weights(len(drawn), num_resamples, seed)]
    return tuple(np.concatenate(chunks) for chunks in zip(*found, strict=True))


def _weights(num_images: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each image was drawn: (at most CHUNK, num_images), each row summing to num_images."""
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, CHUNK):
        number = min(CHUNK, num_resamples - start)
        images = generator.integers(0, num_images, (number, num_images))
        cells = images + num_images * np.arange(number)[:, None]
        counts = np.bincount(cells.ravel(), minlength=number * num_images)
        yield counts.reshape(number, num_images).astype(np.float64)


def _miou(weights: NDArray[np.float64], totals: ImageTotals) -> NDArray[np.float64]:
    """Return the mIoU of weighted images, (num_resamples,), NaN where no class that is averaged has an IoU.

    Counts below 2^53 are exact in float64.
    """
    right = weights @ totals.right
    union = weights @ (totals.labelled + totals.predicted - totals.right)
    has_iou = union > 0
    if totals.is_averaged is not None:
        has_iou &= totals.is_averaged
    iou = np.divide(right, union, out=np.zeros_like(right), where=has_iou)
    num_averaged = has_iou.sum(axis=1)
    return np.divide(iou.sum(axis=1), num_averaged, out=np.full(len(iou), np.nan), where=num_averaged > 0)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values[np.isfinite(values)], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
