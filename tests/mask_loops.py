"""Masks by chance, and their depths by a loop over all pixels, for the tests of what is computed faster."""

import numpy as np

from densessl.structures import MaskArray


def random_mask(seed: int) -> MaskArray:
    generator = np.random.default_rng(seed)
    mask = np.zeros((14, 17), dtype=np.bool_)
    for _ in range(3):
        top, left = generator.integers(0, 10, 2)
        mask[top : top + generator.integers(2, 7), left : left + generator.integers(2, 7)] = True
    return mask


def depth_by_loop(region: MaskArray) -> np.ndarray:
    height, width = region.shape
    found = np.zeros(region.shape)
    outside = [
        (y, x)
        for y in range(-1, height + 1)
        for x in range(-1, width + 1)
        if not (0 <= y < height and 0 <= x < width and region[y, x])
    ]
    for y, x in np.argwhere(region):
        found[y, x] = min(np.hypot(y - other_y, x - other_x) for other_y, other_x in outside)
    return found
