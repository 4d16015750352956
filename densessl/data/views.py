"""Paired views: two augmented crops of an image with its masks, as MaskContrast pretraining wants them."""

import os
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from densessl.data.confidence import MaskConfidence
from densessl.data.masks import MaskFolder
from densessl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from densessl.data.source_cache import Source, SourceCache
from densessl.data.view_batches import ViewPair
from densessl.data.view_sources import ViewSources
from densessl.errors import InputError
from densessl.structures import ImageArray, ImageRef

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no request to the network at import
import albumentations


@dataclass(frozen=True)
class ViewSettings:
    """How the two views of an image are drawn; the defaults are the published MaskContrast recipe.

    Args:
        size_px: height and width of a view.
        min_scale: smallest share of the image's area that a crop may take.
        max_scale: largest share of the image's area that a crop may take.
        flip: probability of a horizontal flip.
        symmetries: also turn views by a random multiple of 90 degrees, each view by its own; for images without an
            up direction (aerial, microscopy, rendered), not for photographs of scenes.
        jitter: probability of colour jitter.
        jitter_strength: brightness, contrast and saturation change by up to this factor, hue by a quarter of it.
        grayscale: probability of dropping colour.
        min_foreground: smallest share of a view that may be foreground; both views must satisfy it.
        max_foreground: largest share of a view that may be foreground.
        max_tries: how often a pair is drawn again before another image takes its place.
        split_instances: treat the connected regions of a mask as separate masks, each with its own prototype.
        neighbours: draw the key view from one of so many nearest neighbours of the image, found once by the features
            of the initial weights, instead of from the image itself (neighbours as in SCAN, arXiv:2005.12320,
            section 2.1, here as positives); 0 draws both views from the same image, as published. The masks of an
            image then count as one; not together with split_instances.
        neighbours_size_px: height and width of the images by whose features neighbours are found.
        num_local: also draw so many small crops of the image of the query view, which the query network alone sees;
            their foreground pixels are pulled to the same prototypes as those of the query view (multi-crop, local to
            global: SwAV, arXiv:2006.09882, section 3.2; DINO, arXiv:2104.14294, section 3.1), and the contrastive loss
            is the mean over the query view and the local ones, each with its own mean; 0 for none, as published. A
            local crop is drawn again, at most max_tries times, until min_foreground of it is foreground; there is no
            upper limit. If none is found the last one stays: its foreground takes part, and without any it gives no
            row. The query and the key view are the same with and without local crops. These go through the network in
            a pass of their own, all together: batch norm that is trained normalises them by their own statistics, and
            its running ones move a second time in each step, towards those of small crops.
        local_size_px: height and width of a local crop, at most size_px.
        local_min_scale: smallest share of the image's area that a local crop may take.
        local_max_scale: largest share of the image's area that a local crop may take.
        reduce_images: read images that are larger than views need at reduced size, so that the smallest crop still has
            size_px pixels (`densessl.data.view_sources.source_size`). For photographs of 2000 px and more this takes a
            fraction of the time. Views differ: crops are resized from averaged pixels and not from single ones.
    """

    size_px: int = 224
    min_scale: float = 0.2
    max_scale: float = 1.0
    flip: float = 0.5
    symmetries: bool = False
    jitter: float = 0.8
    jitter_strength: float = 0.4
    grayscale: float = 0.2
    min_foreground: float = 0.01
    max_foreground: float = 0.99
    max_tries: int = 10
    split_instances: bool = False
    neighbours: int = 0
    neighbours_size_px: int = 320
    num_local: int = 0
    local_size_px: int = 96
    local_min_scale: float = 0.05
    local_max_scale: float = 0.2
    reduce_images: bool = False

    def __post_init__(self) -> None:
        if self.size_px < 16:
            raise InputError(f"views.size_px is {self.size_px}; a view must be at least 16 pixels (published 224)")
        if not 0 < self.min_scale <= self.max_scale <= 1:
            raise InputError(
                f"views.min_scale {self.min_scale} and max_scale {self.max_scale} must satisfy 0 < min <= max <= 1"
            )
        if not 0 <= self.min_foreground < self.max_foreground <= 1:
            raise InputError(
                f"views.min_foreground {self.min_foreground} and max_foreground {self.max_foreground} must satisfy "
                "0 <= min < max <= 1"
            )
        for name in ("flip", "jitter", "grayscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"views.{name} is {getattr(self, name)}; a probability lies in [0, 1]")
        if not 0 <= self.jitter_strength <= 1:
            raise InputError(f"views.jitter_strength is {self.jitter_strength}; it must lie in [0, 1] (published 0.4)")
        if self.max_tries < 1:
            raise InputError(f"views.max_tries is {self.max_tries}; it must be at least 1")
        if self.neighbours < 0:
            raise InputError(f"views.neighbours is {self.neighbours}; it must be 0 (the image itself) or more")
        if self.neighbours_size_px < 16:
            raise InputError(f"views.neighbours_size_px is {self.neighbours_size_px}; it must be at least 16 pixels")
        if self.num_local < 0:
            raise InputError(f"views.num_local is {self.num_local}; it must be 0 (no local crops) or more")
        if not 0 < self.local_min_scale <= self.local_max_scale <= 1:
            raise InputError(
                f"views.local_min_scale {self.local_min_scale} and local_max_scale {self.local_max_scale} must satisfy "
                "0 < min <= max <= 1"
            )
        if self.num_local and not 16 <= self.local_size_px <= self.size_px:
            raise InputError(
                f"views.local_size_px is {self.local_size_px}; a local crop must have at least 16 pixels and at most "
                f"those of a view, views.size_px {self.size_px}"
            )
        if self.neighbours and self.split_instances:
            raise InputError(
                f"views.neighbours is {self.neighbours} and views.split_instances true; neighbours are those of whole "
                "masks, so use one or the other"
            )


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


def local_settings(settings: ViewSettings) -> ViewSettings:
    """Return the settings of a view that is drawn as local crops are."""
    if not settings.num_local:
        return settings
    return replace(
        settings,
        size_px=settings.local_size_px,
        min_scale=settings.local_min_scale,
        max_scale=settings.local_max_scale,
        num_local=0,
    )


def finest_scale(settings: ViewSettings) -> float:
    """Return the smallest share of an image that a view of `size_px` pixels would have to show to be as fine as any.

    That is min_scale, or less where local crops show the image larger than such a view does.
    """
    if not settings.num_local:
        return settings.min_scale
    return min(settings.min_scale, settings.local_min_scale * (settings.size_px / settings.local_size_px) ** 2)


def geometric_transform(settings: ViewSettings) -> "albumentations.Compose":
    """Return the crop and flip of a view: image bilinear, mask nearest."""
    return albumentations.Compose(
        [
            albumentations.RandomResizedCrop(
                size=(settings.size_px, settings.size_px),
                scale=(settings.min_scale, settings.max_scale),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST_EXACT,  # INTER_NEAREST shifts masks by half a pixel
            ),
            albumentations.HorizontalFlip(p=settings.flip),
            albumentations.RandomRotate90(p=1.0 if settings.symmetries else 0.0),
        ]
    )


def photometric_transform(settings: ViewSettings) -> "albumentations.Compose":
    """Return the colour changes of a view and the ImageNet normalisation."""
    normalise = albumentations.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return albumentations.Compose([*colour_transform(settings).transforms, normalise])


def colour_transform(settings: ViewSettings) -> "albumentations.Compose":
    """Return the colour changes of a view, which stays uint8."""
    strength = settings.jitter_strength
    return albumentations.Compose(
        [
            albumentations.ColorJitter(
                brightness=(1 - strength, 1 + strength),
                contrast=(1 - strength, 1 + strength),
                saturation=(1 - strength, 1 + strength),
                hue=(-strength / 4, strength / 4),
                p=settings.jitter,
            ),
            albumentations.ToGray(p=settings.grayscale),
        ]
    )
