"""How well the structure of a saliency map agrees with a mask: S-measure and weighted F-measure."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from densessl.evaluation.saliency_measures import EPSILON, FloatArray, SaliencyPair
from densessl.structures import MaskArray

_SMOOTHING_RADIUS_PX = 3
_SMOOTHING_SIGMA_PX = 5.0
_HALF_DISTANCE_PX = 5.0


def s_measure(pair: SaliencyPair, object_weight: float = 0.5) -> float:
    """Return the structure measure `a S_object + (1 - a) S_region`, not below 0 (Fan et al., ICCV 2017).

    S_object compares mean and spread of the map on the foreground and off it; S_region is the structural similarity
    in the four blocks around the foreground's centroid, weighted by their sizes. Where the ground truth
    has only background (foreground), the score is one minus the map's mean (its mean).

    Ignored pixels are left out of every mean, deviation and block size; the centroid is that of the foreground.
    A block without a pixel weighs nothing.

    object_weight: a in [0, 1], 0.5 as published.
    """
    share = float(pair.is_foreground.mean())
    if share == 0:
        return 1 - float(pair.values.mean())
    if share == 1:
        return float(pair.values.mean())
    on, off = pair.values[pair.is_foreground], 1 - pair.values[~pair.is_foreground]
    object_score = share * _object_score(on) + (1 - share) * _object_score(off)
    return max(0.0, object_weight * object_score + (1 - object_weight) * _region_score(pair))


def weighted_f_measure(pair: SaliencyPair, beta_squared: float = 1.0) -> float:
    """Return the weighted F-measure `(1 + b) P R / (R + b P)` (Margolin et al., CVPR 2014).

    The error |S - G| of a foreground pixel is lowered to its Gaussian average (7 x 7, sigma 5) where that is smaller;
    for this average, background pixels take the error of the nearest foreground pixel. The error of a background
    pixel d pixels from the foreground is weighted by `2 - 0.5^(d / 5)`. 0 where there is no foreground.

    Ignored pixels are neither foreground nor background: their own error never enters, and as neighbours of the
    foreground they take the nearest foreground pixel's error, as background does.

    beta_squared: weight b of precision, 1 as published.
    """
    if not pair.is_foreground.any():
        return 0.0
    num_foreground = int(pair.foreground.sum())
    on = _foreground_error(pair)
    true_positives, recall = num_foreground - on, 1 - on / num_foreground
    precision = true_positives / (true_positives + _background_error(pair) + EPSILON)
    return (1 + beta_squared) * recall * precision / (recall + beta_squared * precision + EPSILON)


def _object_score(values: FloatArray) -> float:
    """Return `2 m / (m^2 + 1 + s)` with mean m and sample standard deviation s (0 for one pixel)."""
    mean = float(values.mean())
    deviation = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation + EPSILON)


def _region_score(pair: SaliencyPair) -> float:
    row, column = _centroid(pair.foreground)
    score = 0.0
    for rows in (slice(0, row), slice(row, None)):
        for columns in (slice(0, column), slice(column, None)):
            block = (rows, columns)
            saliency, foreground = pair.saliency[block], pair.foreground[block]
            if pair.valid is not None:
                saliency, foreground = saliency[pair.valid[block]], foreground[pair.valid[block]]
            if saliency.size:
                score += saliency.size * _structural_similarity(saliency, foreground)
    return score / pair.values.size


def _centroid(foreground: MaskArray) -> tuple[int, int]:
    """Return the row and column that begin the lower and the right blocks: the centroid's pixel is in the others."""
    per_row, per_column = foreground.sum(axis=1), foreground.sum(axis=0)
    total = int(per_row.sum())
    row = int(per_row @ np.arange(per_row.size)) / total
    column = int(per_column @ np.arange(per_column.size)) / total
    return round(row) + 1, round(column) + 1


def _structural_similarity(saliency: FloatArray, foreground: MaskArray) -> float:
    """Return `4 m_x m_y s_xy / ((m_x^2 + m_y^2) (s_x^2 + s_y^2))`; 1 where both blocks are constant (0 / 0)."""
    freedom = saliency.size - 1 + EPSILON
    x_mean, y_mean = saliency.mean(), foreground.mean()
    x, y = (saliency - x_mean).ravel(), (foreground - y_mean).ravel()
    numerator = 4 * x_mean * y_mean * (x @ y / freedom)
    denominator = (x_mean**2 + y_mean**2) * ((x @ x + y @ y) / freedom)
    if numerator != 0:
        return float(numerator / (denominator + EPSILON))
    return 1.0 if denominator == 0 else 0.0


def _foreground_error(pair: SaliencyPair) -> float:
    """Return the sum over the foreground of the error or its Gaussian average, whichever is smaller.

    Nothing farther from the foreground than the radius of the Gaussian matters, so the rest is cut off.
    """
    part = _surroundings(pair.foreground, _SMOOTHING_RADIUS_PX)
    foreground = pair.foreground[part]
    error = 1 - pair.saliency[part]  # right on the foreground; elsewhere it is replaced
    if not foreground.all():
        nearest = distance_transform_edt(~foreground, return_distances=False, return_indices=True)
        error = error[nearest[0], nearest[1]]
    kernel = _gaussian()
    smooth = cv2.sepFilter2D(error, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    return float(np.minimum(error, smooth)[foreground].sum())


def _background_error(pair: SaliencyPair) -> float:
    """Return the sum over the background of the error weighted by the distance to the foreground."""
    is_wrong = (pair.saliency > 0) & ~pair.foreground  # ignored pixels are 0
    if not is_wrong.any():
        return 0.0
    background = np.logical_not(pair.foreground).view(np.uint8)
    rounded = cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[is_wrong].astype(np.float64)
    distance = np.sqrt(np.rint(rounded**2))  # exact: OpenCV's last digits differ between runs
    weights = 2 - np.exp(np.log(0.5) / _HALF_DISTANCE_PX * distance)
    return float(pair.saliency[is_wrong] @ weights)


def _surroundings(mask: MaskArray, margin_px: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(int(rows[0]) - margin_px, 0), int(rows[-1]) + 1 + margin_px),
        slice(max(int(columns[0]) - margin_px, 0), int(columns[-1]) + 1 + margin_px),
    )


def _gaussian() -> NDArray[np.float64]:
    offsets = np.arange(-_SMOOTHING_RADIUS_PX, _SMOOTHING_RADIUS_PX + 1)
    kernel = np.exp(-(offsets**2) / (2 * _SMOOTHING_SIGMA_PX**2))
    return np.asarray(kernel / kernel.sum())
