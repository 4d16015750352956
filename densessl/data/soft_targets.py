"""Training views of images with soft foreground targets, averaged over folders of soft maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from densessl.data.images import image_size, read_image
from densessl.data.mask_encodings import load_mask_file
from densessl.data.source_cache import Source, SourceCache, source_key
from densessl.data.view_settings import ViewSettings
from densessl.data.view_sources import file_state, source_size
from densessl.data.view_transforms import geometric_transform, photometric_transform
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageRef


@dataclass(frozen=True)
class SoftMaps:
    """Soft maps of the same images made several times: folders of 8-bit PNG files STEM.png, and a weight for each.

    An image's target is the weighted mean of its maps, over the folders that have one; weight 0 leaves a folder out.
    """

    folders: tuple[Path, ...]
    weights: tuple[float, ...]

    def has(self, stem: str) -> bool:
        """Say whether any folder that counts has a map of this image."""
        return any(True for _ in self.files(stem))

    def read(self, stem: str) -> NDArray[np.float32]:
        """Return the target of an image (height, width), in [0, 1].

        Raises:
            InputError: no folder that counts has a map of it, one is broken, or their sizes differ.
        """
        total: NDArray[np.float32] | None = None
        weight_sum = 0.0
        for path, weight in self.files(stem):
            soft = np.asarray(load_mask_file(path).values, dtype=np.float32) / 255
            if total is not None and total.shape != soft.shape:
                raise InputError(f"soft map {path} is {soft.shape}, that of an earlier round {total.shape}")
            scaled: NDArray[np.float32] = np.multiply(soft, weight, dtype=np.float32)
            total = scaled if total is None else np.add(total, scaled, dtype=np.float32)
            weight_sum += weight
        if total is None:
            raise InputError(f"image {stem} has no soft map in {', '.join(map(str, self.folders))}")
        return np.divide(total, weight_sum, dtype=np.float32)

    def files(self, stem: str) -> Iterator[tuple[Path, float]]:
        """Yield the maps of an image, each with its weight."""
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


def check_map_size(ref: ImageRef, shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Raise `InputError` where the soft map of an image of that size, (height, width), has another shape."""
    if shape != size:
        raise InputError(
            f"soft map of image {ref.path} is {shape}, the image {size}; they must be of one size: choose "
            "another output folder (--out), so that the maps are made anew"
        )


def collate_targets(views: list[TargetView]) -> TargetView:
    """Stack views to a batch: images (batch, 3, size, size), targets (batch, size, size)."""
    return TargetView(torch.stack([view.image for view in views]), torch.stack([view.target for view in views]))


class TargetViews(Dataset[TargetView]):
    """Draws one augmented view of an image and its target; the same `SampleKey` always gives the same view.

    Args:
        images: those that have a target.
        targets: their soft maps.
        settings: of the views; with `reduce_images`, images larger than these need are reduced (`source_size`), and
            their targets as well.
        cache: keeps what was read, if given; see `open_target_cache`.
    """

    def __init__(
        self,
        images: tuple[ImageRef, ...],
        targets: SoftMaps,
        settings: ViewSettings,
        cache: SourceCache | None = None,
    ) -> None:
        self.images = images
        self.targets = targets
        self._settings = settings
        self._cache = cache
        self._geometric = geometric_transform(settings)
        self._photometric = photometric_transform(settings)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> TargetView:  # type: ignore[override]
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        source = self._read(key.index)
        self._geometric.set_random_seed(int(generator.integers(2**31)))
        view = self._geometric(image=source.image, mask=source.masks)
        self._photometric.set_random_seed(int(generator.integers(2**31)))
        pixels = self._photometric(image=view["image"])["image"]
        return TargetView(
            torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            torch.from_numpy(view["mask"].astype(np.float32) / 255),
        )

    def _read(self, index: int) -> Source:
        """Return an image with its target as bytes, at the size from which views are cut."""
        kept = None if self._cache is None else self._cache.read(index)
        if kept is not None:
            return kept
        ref = self.images[index]
        soft = self.targets.read(ref.stem)
        size = _kept_size(ref, self._settings)
        image = read_image(ref.path, size)
        if size is None:
            check_map_size(ref, soft.shape, image.shape[:2])
        else:
            check_map_size(ref, soft.shape, image_size(ref.path))
            soft = cv2.resize(soft, size[::-1], interpolation=cv2.INTER_AREA)
        source = Source(image, np.rint(soft * 255).astype(np.uint8))
        if self._cache is not None:
            self._cache.write(index, source)
        return source


def open_target_cache(
    folder: Path, images: tuple[ImageRef, ...], targets: SoftMaps, settings: ViewSettings, max_bytes: float
) -> SourceCache:
    """Lay out a cache of images and targets, for `TargetViews`, in a folder; nothing is decoded yet.

    What it holds of an image whose file or soft map has changed since is not used.

    Raises:
        InputError: the folder cannot be written, its disk is too small, or an image is gone.
    """
    sizes = [_kept_size(ref, settings) or image_size(ref.path) for ref in images]
    keys = []
    for ref, size in zip(images, sizes, strict=True):
        maps = [(file_state(path), weight) for path, weight in targets.files(ref.stem)]
        keys.append(source_key("target", size, file_state(ref.path), maps))
    stems, elsewhere = [ref.stem for ref in images], "choose another output folder (--out)"
    cache = SourceCache(folder, stems, sizes, keys, max_bytes, group="self_training", elsewhere=elsewhere)
    cache.prepare()
    return cache


def _kept_size(ref: ImageRef, settings: ViewSettings) -> tuple[int, int] | None:
    """Return the size (height, width) to which an image is reduced, `None` where it stays as it is."""
    if not settings.reduce_images:
        return None
    return source_size(image_size(ref.path), settings.size_px, settings.min_scale)
