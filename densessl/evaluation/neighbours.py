"""Nearest neighbours among the images of a data set, by one feature vector each."""

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from densessl.errors import InputError

_ROWS_AT_ONCE = 1024


def nearest_neighbours(vectors: NDArray[np.floating], num_neighbours: int) -> NDArray[np.int64]:
    """Return the nearest other vectors of each, by the cosine of vectors less their mean, nearest first.

    Vectors are brought to unit length, their mean is taken off (features of a rectified layer all lean one way), and
    what is left is compared by cosine. Equal neighbours come in order of their number, so the result is the same on
    every machine up to rounding.

    Args:
        vectors: (num, dim).
        num_neighbours: how many to return for each.

    Returns:
        int64 (num, num_neighbours), rows of `vectors`; no vector is its own neighbour.

    Raises:
        InputError: fewer than `num_neighbours` other vectors.
    """
    num = len(vectors)
    if not 1 <= num_neighbours < num:
        raise InputError(
            f"{num_neighbours} neighbours were asked for among {num} images; ask for 1 to {num - 1}, or add images"
        )
    unit = normalize(np.asarray(vectors, dtype=np.float32))
    unit = normalize(unit - unit.mean(axis=0))
    found = np.empty((num, num_neighbours), dtype=np.int64)
    for first in range(0, num, _ROWS_AT_ONCE):
        similarity = unit[first : first + _ROWS_AT_ONCE] @ unit.T
        rows = np.arange(len(similarity))
        similarity[rows, first + rows] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")
        found[first : first + len(rows)] = order[:, :num_neighbours]
    return found
