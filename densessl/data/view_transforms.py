"""The crops and colours of views, by albumentations."""

import os

import cv2

from densessl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from densessl.data.view_settings import ViewSettings

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no request to the network at import
import albumentations


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
