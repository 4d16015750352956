"""From a map at working size to one of the photograph's size, along the photograph's edges and in bounded memory."""

import numpy as np

from densessl.saliency.colour import FloatMap, resize_map
from densessl.saliency.refinement import guided_filter
from densessl.structures import ImageArray

RADIUS_PX = 2
"""Of the guided filter, in pixels of the small map."""
SMOOTHNESS = 1e-3
BAND_PX = 1_000_000
"""Pixels filtered at a time: some 300 MB."""


def enlarge_along_edges(image: ImageArray, small: FloatMap) -> FloatMap:
    """Return the map `small` at the size of `image` (height, width, 3), bilinear and then by the guided filter.

    Windows have a radius of two pixels of the small map. A map that has the size of the image is returned as it is.
    Filtered in bands, which changes nothing but the memory it takes.
    """
    height, width = image.shape[:2]
    if small.shape == (height, width):
        return small
    radius_px = max(1, round(RADIUS_PX * max(height, width) / max(small.shape)))
    large = resize_map(small, height, width)
    filtered = np.empty_like(large)
    margin = 2 * radius_px  # a value depends on windows whose own windows reach this far
    rows = max(1, BAND_PX // width)
    for top in range(0, height, rows):
        start, stop = max(0, top - margin), min(height, top + rows + margin)
        band = guided_filter(image[start:stop], large[start:stop], radius_px, SMOOTHNESS)
        filtered[top : top + rows] = band[top - start : top - start + rows]
    return filtered
