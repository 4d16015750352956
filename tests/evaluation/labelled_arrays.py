"""Features and labels in memory, for the tests of labelled protocols."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.structures import LabelMap


@dataclass(frozen=True)
class ArraySource:
    """A feature source in memory: float32 (dim, h, w) for each image."""

    maps: tuple[NDArray[np.float32], ...]

    @property
    def stems(self) -> Sequence[str]:
        return [f"image{index}" for index in range(len(self.maps))]

    def __len__(self) -> int:
        return len(self.maps)

    def pixels(self, index: int) -> NDArray[np.float32]:
        return self.maps[index]


def planted(
    num_images: int,
    labels_of: Sequence[int],
    *,
    dim: int = 5,
    grid: tuple[int, int] = (3, 4),
    noise: float = 0.7,
    cell_px: int = 4,
    seed: int = 0,
) -> tuple[ArraySource, list[LabelMap]]:
    """Draw label maps of rectangles and features that point in the direction of each cell's mean label."""
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(256, dim)) * 2
    maps, labels = [], []
    for _ in range(num_images):
        values = generator.choice(labels_of, size=grid)
        label_map = np.kron(values, np.ones((cell_px, cell_px), dtype=np.int64)).astype(np.int64)
        label_map[: cell_px // 2, : 2 * cell_px] = labels_of[0]
        label_map[-1:, :] = 255
        features = directions[values].transpose(2, 0, 1) + noise * generator.normal(size=(dim, *grid)) + 3
        maps.append(features.astype(np.float32))
        labels.append(label_map)
    return ArraySource(tuple(maps)), labels
