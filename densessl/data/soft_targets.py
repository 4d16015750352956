"""Training views of images with soft foreground targets, averaged over folders of soft maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from densessl.data.images import read_image
from densessl.data.mask_encodings import load_mask_file
from densessl.data.view_settings import ViewSettings
from densessl.data.view_transforms import geometric_transform, photometric_transform
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageArray, ImageRef


@dataclass(frozen=True)
class SoftMaps:
    """Soft maps of the same images made several times: folders of 8-bit PNG files STEM.png, and a weight for each.

    An image's target is the weighted mean of its maps, over the folders that have one; weight 0 leaves a folder out.
    """

    folders: tuple[Path, ...]
    weights: tuple[float, ...]

    def has(self, stem: str) -> bool:
        """Say whether any folder that counts has a map of this image."""
        return any(True for _ in self._files(stem))

    def read(self, stem: str) -> NDArray[np.float32]:
        """Return the target of an image (height, width), in [0, 1].

        Raises:
            InputError: no folder that counts has a map of it, one is broken, or their sizes differ.
        """
        total: NDArray[np.float32] | None = None
        weight_sum = 0.0
        for path, weight in self._files(stem):
            soft = np.asarray(load_mask_file(path).values, dtype=np.float32) / 255
            if total is not None and total.shape != soft.shape:
                raise InputError(f"soft map {path} is {soft.shape}, that of an earlier round {total.shape}")
            scaled: NDArray[np.float32] = np.multiply(soft, weight, dtype=np.float32)
            total = scaled if total is None else np.add(total, scaled, dtype=np.float32)
            weight_sum += weight
        if total is None:
            raise InputError(f"image {stem} has no soft map in {', '.join(map(str, self.folders))}")
        return np.divide(total, weight_sum, dtype=np.float32)

    def _files(self, stem: str) -> Iterator[tuple[Path, float]]:
        for folder, weight in zip(self.folders, self.weights, strict=True):
            path = folder / f"{stem}.png"
            if weight > 0 and path.is_file():
                yield path, weight


def decidedness(soft: NDArray[np.float32]) -> float:
    """Return how far apart a soft map (height, width) puts the two sides of 0.5: mean inside less mean outside.

    In [0, 1]; 0 for a map that has pixels on one side only. A criterion of our own, measured in docs/decisions.md.
    """
    inside = soft > 0.5
    if inside.all() or not inside.any():
        return 0.0
    return float(soft[inside].mean() - soft[~inside].mean())


class TargetView(NamedTuple):
    """image: float32 (3, size, size), normalised. target: float32 (size, size), in [0, 1]."""

    image: torch.Tensor
    target: torch.Tensor


def check_map_size(ref: ImageRef, shape: tuple[int, ...], image: ImageArray) -> None:
    """Raise `InputError` where the soft map of an image (height, width, 3) has another shape than (height, width)."""
    if shape != image.shape[:2]:
        raise InputError(
            f"soft map of image {ref.path} is {shape}, the image {image.shape[:2]}; they must be of one size: choose "
            "another output folder (--out), so that the maps are made anew"
        )


def collate_targets(views: list[TargetView]) -> TargetView:
    """Stack views to a batch: images (batch, 3, size, size), targets (batch, size, size)."""
    return TargetView(torch.stack([view.image for view in views]), torch.stack([view.target for view in views]))


class TargetViews(Dataset[TargetView]):
    """Draws one augmented view of an image and its target; the same `SampleKey` always gives the same view."""

    def __init__(self, images: tuple[ImageRef, ...], targets: SoftMaps, settings: ViewSettings) -> None:
        self.images = images
        self.targets = targets
        self._geometric = geometric_transform(settings)
        self._photometric = photometric_transform(settings)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> TargetView:  # type: ignore[override]
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        ref = self.images[key.index]
        image = read_image(ref.path)
        target = np.rint(self.targets.read(ref.stem) * 255).astype(np.uint8)
        check_map_size(ref, target.shape, image)
        self._geometric.set_random_seed(int(generator.integers(2**31)))
        view = self._geometric(image=image, mask=target)
        self._photometric.set_random_seed(int(generator.integers(2**31)))
        pixels = self._photometric(image=view["image"])["image"]
        return TargetView(
            torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            torch.from_numpy(view["mask"].astype(np.float32) / 255),
        )
