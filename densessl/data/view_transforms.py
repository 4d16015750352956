"""The crops and colours of views, by albumentations."""

import os

import cv2

from densessl.data.multi_crop_settings import MultiCropSettings
from densessl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from densessl.data.view_settings import ViewSettings

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no request to the network at import
import albumentations


def geometric_transform(settings: ViewSettings, interpolation: int = cv2.INTER_LINEAR) -> "albumentations.Compose":
    """Return the crop and flip of a view: image bilinear, where not asked otherwise, mask nearest."""
    return albumentations.Compose(
        [
            albumentations.RandomResizedCrop(
                size=(settings.size_px, settings.size_px),
                scale=(settings.min_scale, settings.max_scale),
                interpolation=interpolation,
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


def crop_transform(
    view: ViewSettings, settings: MultiCropSettings, *, blur: float, solarise: float = 0.0
) -> "albumentations.Compose":
    """Return crop, flip, colours, blur and solarisation of a multi-crop view, which stays uint8 (arXiv:2104.14294).

    Args:
        view: size, scale and flip of the crop.
        settings: of the colours.
        blur: probability of a Gaussian blur. solarise: probability of inverting values of 128 and more.
    """
    return albumentations.Compose(
        [
            *geometric_transform(view, cv2.INTER_CUBIC).transforms,
            albumentations.ColorJitter(
                brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.8, 1.2), hue=(-0.1, 0.1), p=settings.jitter
            ),
            albumentations.ToGray(p=settings.grayscale),
            albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
            albumentations.Solarize(threshold_range=(0.5, 0.5), p=solarise),
        ]
    )
