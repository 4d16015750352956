"""PCA over a stream of vectors: one pass, two moments, no vector held."""

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.projection import NEGLIGIBLE_VARIANCE, Projection
from densessl.evaluation.streaming_kmeans import Chunks


def standardised_pca(
    chunks: Chunks, num_dimensions: int, is_standardised: bool = True
) -> tuple[Projection, tuple[str, ...]]:
    """Fit a PCA without whitening to a stream, of dimensions divided by their standard deviation where asked.

    A dimension that never varies is left as it is. Directions are ordered by variance, and the largest entry of each is
    positive. Fewer than `num_dimensions` are kept where there are no more with variance, and the notes say so.
    Mean and covariance are summed in float64 around the mean of the first chunk. Raises `InputError` for fewer than
    two vectors.
    """
    mean, covariance, num_vectors = _moments(chunks)
    variance = np.diagonal(covariance)
    is_varying = variance > NEGLIGIBLE_VARIANCE * max(float(variance.max()), np.finfo(np.float64).tiny)
    scale = np.where(is_varying, np.sqrt(np.maximum(variance, 0)), 1.0) if is_standardised else np.ones(len(mean))
    values, directions = np.linalg.eigh(covariance / np.outer(scale, scale))
    values, directions = values[::-1], directions[:, ::-1].T
    num_kept = min(num_dimensions, int((values > NEGLIGIBLE_VARIANCE * values[0]).sum()))
    if num_kept < 1 or values[0] <= 0:
        return Projection(False, False), ("no PCA: all vectors are equal (collapsed features)",)
    notes: tuple[str, ...] = ()
    if num_kept < num_dimensions:
        notes = (
            f"PCA keeps {num_kept} dimensions instead of {num_dimensions}: {num_vectors} vectors of {len(mean)} "
            "dimensions have no more with variance",
        )
    kept = directions[:num_kept]
    signs = np.sign(kept[np.arange(num_kept), np.abs(kept).argmax(axis=1)])
    components = (signs[:, None] * kept / scale).astype(np.float32)
    return Projection(False, False, mean=mean.astype(np.float32), components=components), notes


def _moments(chunks: Chunks) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return mean, covariance (divided by the number) and number of the vectors of a stream."""
    shift, summed, products, number = np.zeros(0), np.zeros(0), np.zeros((0, 0)), 0
    for chunk in chunks():
        if not len(chunk):
            continue
        if number == 0:
            shift = chunk.mean(axis=0, dtype=np.float64)
            summed, products = np.zeros_like(shift), np.zeros((len(shift), len(shift)))
        centred = chunk.astype(np.float64) - shift
        summed += centred.sum(axis=0)
        products += centred.T @ centred
        number += len(chunk)
    if number < 2:
        raise InputError(f"a PCA needs at least 2 vectors, the stream has {number}; add images")
    mean = summed / number
    return shift + mean, products / number - np.outer(mean, mean), number
