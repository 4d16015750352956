"""Nearest neighbours among the images of a data set, by one feature vector each, and among their masks."""

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from densessl.errors import InputError
from densessl.evaluation.patch_memory import unit_rows

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


def most_similar(
    vectors: NDArray[np.floating], query: int, images: NDArray[np.int64], num: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows of other images that are nearest to a row by plain cosine, and the cosines, nearest first.

    Masks of one image share their surroundings, so those of the query's own image are no finds. Equals come in order of
    their rows. Fewer than `num` are returned where other images have fewer masks.

    Args:
        vectors: (num rows, dim), of any length.
        query: a row.
        images: (num rows,), the image that each row belongs to, as any number.
        num: how many to return, at least 1.

    Raises:
        InputError: no such row, another number of images than of rows, `num` below 1.
    """
    if num < 1:
        raise InputError(f"{num} neighbours were asked for; ask for 1 or more")
    if not 0 <= query < len(vectors) or len(images) != len(vectors):
        raise InputError(f"row {query} of {len(vectors)} vectors with {len(images)} image numbers does not exist")
    unit = unit_rows(vectors)
    cosines = unit @ unit[query]
    others = np.flatnonzero(images != images[query])
    rows = others[np.argsort(-cosines[others], kind="stable")][:num]
    return rows, cosines[rows].astype(np.float64)
