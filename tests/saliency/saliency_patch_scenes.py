"""Feature grids with a known answer, shared by the tests of the methods on deep features."""

import numpy as np

from densessl.models.patch_features import PatchFeatures

HEIGHT, WIDTH = 7, 12


def rectangle() -> np.ndarray:
    """Return the object, bool (HEIGHT, WIDTH): 3 x 4 cells, off the middle."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[2:5, 6:10] = True
    return mask


def two_clusters(mask: np.ndarray, noise: float = 0.05, dim: int = 8, num_heads: int = 1) -> PatchFeatures:
    """Return features whose object and background point in opposite directions, and attention on the object."""
    generator = np.random.default_rng(0)
    direction = generator.standard_normal(dim)
    direction /= np.linalg.norm(direction)
    side = np.where(mask.ravel(), 1.0, -1.0)
    values = side[:, None] * direction + noise * generator.standard_normal((mask.size, dim))
    attention = np.where(mask.ravel(), 2.0, 1.0) + 0.1 * generator.random((num_heads, mask.size))
    return PatchFeatures(values, attention / attention.sum(axis=1, keepdims=True), *mask.shape)


def random_features(height: int, width: int, dim: int = 6, num_heads: int = 1, seed: int = 0) -> PatchFeatures:
    """Return features and attention without structure, for comparisons with slow loops."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((height * width, dim))
    return PatchFeatures(values, generator.random((num_heads, height * width)), height, width)
