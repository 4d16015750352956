"""Paired views: two augmented crops of an image with its masks, as MaskContrast pretraining wants them."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from densessl.data.confidence import MaskConfidence
from densessl.data.masks import MaskFolder
from densessl.data.source_cache import Source, SourceCache
from densessl.data.view_batches import ViewPair
from densessl.data.view_settings import ViewSettings, finest_scale, local_settings
from densessl.data.view_sources import ViewSources
from densessl.data.view_transforms import colour_transform, geometric_transform
from densessl.errors import InputError
from densessl.structures import ImageArray, ImageRef

if TYPE_CHECKING:
    import albumentations


class SampleKey(NamedTuple):
    """Which pair of views to draw: everything random about it follows from these three numbers."""

    seed: int
    epoch: int
    index: int  # type: ignore[assignment]  # a tuple's method of that name is not used


class PairedViews(Dataset[ViewPair]):
    """Draws pairs of views of images with masks; the same `SampleKey` always gives the same pair, in any process.

    A pair is drawn again, at most `max_tries` times, until both views hold between `min_foreground` and
    `max_foreground` foreground; then another image takes the place of this one, and the pair says so.

    `neighbours`: int64 (num_images, num_neighbours), rows of `images`, where key views come from neighbours; the
    masks of an image then count as one. `cache` keeps what was decoded; the pairs are the same with it. `confidence`
    goes through the same crops as the masks, which are the same with it.
    """

    max_replacements = 20

    def __init__(
        self,
        images: tuple[ImageRef, ...],
        masks: MaskFolder,
        settings: ViewSettings,
        neighbours: NDArray[np.int64] | None = None,
        cache: SourceCache | None = None,
        confidence: MaskConfidence | None = None,
    ) -> None:
        if (neighbours is None) != (settings.neighbours == 0):
            raise ValueError("neighbours are given exactly where settings.neighbours asks for them")
        self.images = images
        self.sources = replace(sources_for(images, masks, settings, confidence), cache=cache)
        self.settings = settings
        self.neighbours = neighbours
        self._geometric = geometric_transform(settings)
        self._local_geometric = geometric_transform(local_settings(settings))
        self._colours = colour_transform(settings)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: SampleKey) -> ViewPair:  # type: ignore[override]
        generator = np.random.default_rng([key.seed, key.epoch, key.index])
        index = key.index
        for num_replaced in range(self.max_replacements + 1):
            pair = self._draw(index, generator, num_replaced)
            if pair is not None:
                return pair
            index = int(generator.integers(len(self.images)))
        raise InputError(
            f"no pair of views with {self.settings.min_foreground:.0%}-{self.settings.max_foreground:.0%} foreground "
            f"was found in {self.max_replacements + 1} images, the first being {self.images[key.index].stem!r}; look "
            "at the masks (are they all background or all foreground?), or raise views.min_scale or views.max_tries"
        )

    def _draw(self, index: int, generator: np.random.Generator, num_replaced: int) -> ViewPair | None:
        query_source = self._read(index)
        key_source = query_source
        if self.neighbours is not None:
            key_source = self._read(int(generator.choice(self.neighbours[index])))
        if not (query_source.masks.any() and key_source.masks.any()):
            return None
        for _ in range(self.settings.max_tries):
            query = self._crop(query_source, generator)
            key = self._crop(key_source, generator)
            if self._is_two_sided(query.masks) and self._is_two_sided(key.masks):
                pair = ViewPair(
                    self._colour(query.image, generator),
                    _tensor(query.masks),
                    self._colour(key.image, generator),
                    _tensor(key.masks),
                    self.images[index].stem,
                    num_replaced,
                    query_confidence=None if query.confidence is None else _tensor(query.confidence),
                    key_confidence=None if key.confidence is None else _tensor(key.confidence),
                )
                return self._with_local(pair, query_source, generator) if self.settings.num_local else pair
        return None

    def draw_view(self, index: int, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Draw one view of an image alone, as those of pairs are drawn.

        Returns the image uint8 (3, size, size), its mask uint8 (size, size), and whether the view is two-sided; after
        `max_tries` draws the last one stays.
        """
        source = self._read(index)
        for _ in range(self.settings.max_tries):
            view = self._crop(source, generator)
            is_usable = self._is_two_sided(view.masks)
            if is_usable:
                break
        return self._colour(view.image, generator), _tensor(view.masks), is_usable

    def _with_local(self, pair: ViewPair, source: Source, generator: np.random.Generator) -> ViewPair:
        """Add local crops; drawn last, so that the pair is the same without them."""
        images, crops = [], []
        for _ in range(self.settings.num_local):
            for _ in range(self.settings.max_tries):
                crop = self._crop(source, generator, self._local_geometric)
                if np.count_nonzero(crop.masks) >= self.settings.min_foreground * crop.masks.size:
                    break
            images.append(self._colour(crop.image, generator))
            crops.append(crop)
        confidence = [_tensor(crop.confidence) for crop in crops if crop.confidence is not None]
        return pair._replace(
            local_images=torch.stack(images),
            local_masks=torch.stack([_tensor(crop.masks) for crop in crops]),
            local_confidence=torch.stack(confidence) if confidence else None,
        )

    def _read(self, index: int) -> Source:
        source = self.sources.read(index)
        if self.neighbours is None:
            return source
        return source._replace(masks=(source.masks > 0).astype(np.uint8))

    def _crop(
        self, source: Source, generator: np.random.Generator, geometric: "albumentations.Compose | None" = None
    ) -> Source:
        geometric = geometric or self._geometric
        geometric.set_random_seed(int(generator.integers(2**31)))
        if source.confidence is None:
            view = geometric(image=source.image, mask=source.masks)
            return Source(view["image"], view["mask"])
        view = geometric(image=source.image, masks=[source.masks, source.confidence])
        return Source(view["image"], *view["masks"])

    def _colour(self, image: ImageArray, generator: np.random.Generator) -> torch.Tensor:
        self._colours.set_random_seed(int(generator.integers(2**31)))
        return torch.from_numpy(np.stack(cv2.split(self._colours(image=image)["image"])))  # (3, size, size)

    def _is_two_sided(self, mask: NDArray[np.uint8]) -> bool:
        share = np.count_nonzero(mask) / mask.size
        return bool(self.settings.min_foreground <= share <= self.settings.max_foreground)


def _tensor(values: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def sources_for(
    images: tuple[ImageRef, ...], masks: MaskFolder, settings: ViewSettings, confidence: MaskConfidence | None = None
) -> ViewSources:
    """Return what reads images and masks as the settings of the views want them, without a cache."""
    reduced_for = (settings.size_px, finest_scale(settings)) if settings.reduce_images else None
    return ViewSources(images, masks, settings.split_instances, reduced_for, confidence=confidence)
