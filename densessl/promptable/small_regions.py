"""Fills small holes of masks and removes small islands, on their runs, whatever the size of the image."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from densessl.promptable.mask_runs import MaskRuns


def remove_small_regions(mask: MaskRuns, min_area_px: int) -> MaskRuns:
    """Fill the holes with fewer pixels, then remove the islands with fewer; returns `mask` itself if there are none.

    Both are 8-connected, and a hole is any such region of the background, as published with SAM. Where all islands are
    small the largest stays; of several, that which comes first in reading order.
    """
    background = mask.inverse()
    holes = _small(background, min_area_px)
    if holes is not None:
        parts, is_small = holes
        columns = mask.by_column()
        order = np.concatenate([columns.starts, parts.starts[is_small]]).argsort()
        starts = np.concatenate([columns.starts, parts.starts[is_small]])[order]
        ends = np.concatenate([columns.ends, parts.ends[is_small]])[order]
        mask = MaskRuns(mask.size, starts, ends).joined()
    islands = _small(mask, min_area_px)
    if islands is None:
        return mask
    parts, is_small = islands
    if is_small.all():
        is_small = ~_largest(parts)
    return MaskRuns(mask.size, parts.starts[~is_small], parts.ends[~is_small]).joined()


def regions(columns: MaskRuns) -> NDArray[np.int64]:
    """Number the 8-connected regions of runs of single columns (`by_column`) from 0; int64 (num_runs,)."""
    num_runs, height = len(columns.starts), columns.size[0]
    column = columns.starts // height
    # runs of the next column that share a row with this one, or one next to it
    first = np.searchsorted(columns.ends, columns.starts + height, side="left")
    last = np.searchsorted(columns.starts, columns.ends + height, side="right")
    first = np.maximum(first, np.searchsorted(column, column + 1, side="left"))
    last = np.minimum(last, np.searchsorted(column, column + 1, side="right"))
    counts = np.maximum(last - first, 0)
    left = np.repeat(np.arange(num_runs), counts)
    right = np.arange(len(left)) - np.repeat(counts.cumsum() - counts, counts) + first[left]
    links = coo_array((np.ones(len(left), dtype=np.bool_), (left, right)), shape=(num_runs, num_runs))
    _, found = connected_components(links, directed=False)
    return found.astype(np.int64)


def _small(mask: MaskRuns, min_area_px: int) -> tuple[MaskRuns, NDArray[np.bool_]] | None:
    """Return the runs by column and which of them are in small regions; None where there are none."""
    if not len(mask.starts):
        return None
    columns = mask.by_column()
    of_run = regions(columns)
    areas = np.bincount(of_run, weights=columns.ends - columns.starts)
    is_small = (areas < min_area_px)[of_run]
    return (columns, is_small) if is_small.any() else None


def _largest(columns: MaskRuns) -> NDArray[np.bool_]:
    """Return which runs are in the largest region; of several, in that with the first pixel in reading order."""
    of_run = regions(columns)
    areas = np.bincount(of_run, weights=columns.ends - columns.starts)
    height, width = columns.size
    place = (columns.starts % height) * width + columns.starts // height
    first = np.full(len(areas), height * width, dtype=np.int64)
    np.minimum.at(first, of_run, place)
    candidates = np.flatnonzero(areas == areas.max())
    return of_run == candidates[first[candidates].argmin()]
