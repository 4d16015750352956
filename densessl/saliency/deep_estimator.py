"""Saliency through the features of a pretrained encoder: the image brought to a grid of patches, and back."""

import functools
from pathlib import Path
from typing import Literal, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.models.patch_features import PatchEncoder, PatchFeatures, load_patch_encoder
from densessl.saliency.colour import FloatMap, resize_map
from densessl.saliency.feature_settings import DEEP_METHODS, MIN_SIZE_PX, FeatureSettings
from densessl.saliency.normalised_cut import tokencut
from densessl.saliency.seed_expansion import found_seeds, lost
from densessl.saliency.spectral_segments import NUM_EIGENVECTORS, deep_spectral, eigensegments
from densessl.structures import ImageArray

MAX_CELLS = 6400
"""Patches of the largest square image; a cut of them takes 0.4 GB, 1 GB where it must be factorised."""


class FeatureRecord(TypedDict):
    """What `saliency.json` says of an encoder's weights: SHA-256 of their file, and which labels trained them."""

    weights_sha256: str | None
    supervision: str


def deep_saliency(image: ImageArray, method: str, settings: FeatureSettings) -> FloatMap:
    """Return the soft map (height, width), in [0, 1], of a uint8 RGB image by a method on deep features.

    0.5 is the split of the paper, so that `map > 0.5` is its mask before refinement, enlarged bilinearly from the grid
    of patches. An image of one colour is all background.

    Raises:
        InputError: an unknown method, or an encoder that cannot be loaded (`load_encoder`).
    """
    height, width = image.shape[:2]
    if (image == image[0, 0]).all():
        return np.zeros((height, width), dtype=np.float32)
    features, resized = _look(image, settings)
    match method:
        case "tokencut":
            soft = tokencut(features)
        case "deep_spectral":
            soft = deep_spectral(features, resized)
        case "lost":
            soft = lost(features)
        case "found_seeds":
            soft = found_seeds(features)
        case _:
            raise InputError(f"unknown method {method!r} on deep features; choose one of {', '.join(DEEP_METHODS)}")
    return np.clip(resize_map(soft, height, width), 0, 1)


def deep_segments(
    image: ImageArray, num_segments: int | Literal["auto"], settings: FeatureSettings, size: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the `eigensegments` of a uint8 RGB image (height, width, 3), enlarged: int64 of `size`, (height, width).

    0 is background. Each segment is enlarged bilinearly from the grid of patches, and a pixel belongs to the one that
    is strongest there. Grids of fewer than 21 patches have fewer eigenvectors; an image of one colour is background.

    Raises:
        InputError: as `deep_saliency`, and more segments than patches.
    """
    best, labels = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.int64)
    if (image == image[0, 0]).all():
        return labels
    features, resized = _look(image, settings)
    num_eigenvectors = min(NUM_EIGENVECTORS, features.height * features.width - 2)
    number = None if num_segments == "auto" else num_segments
    segments = eigensegments(features, resized, number, num_eigenvectors)
    for segment in range(segments.max() + 1):
        weight = resize_map((segments == segment).astype(np.float32), *size)
        labels[weight > best] = segment
        best = np.maximum(best, weight)
    return labels


def _look(image: ImageArray, settings: FeatureSettings) -> tuple[PatchFeatures, ImageArray]:
    """Return the features of an image, and the image as the encoder saw it."""
    encoder = load_encoder(settings)
    resized = resize_to_grid(image, settings.size_px, encoder.encoder.stride)
    pixels = torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255
    return encoder.extract(pixels), resized


def resize_to_grid(image: ImageArray, size_px: int, stride: int) -> ImageArray:
    """Return an image (height, width, 3) with a long side of about `size_px`, both sides multiples of `stride`.

    Each side is rounded by itself, so the aspect ratio is kept to within a cell. Smaller images are enlarged: patches
    see as much of an image as they did of the photographs, 400 to 500 pixels wide, that the methods were published on.
    """
    height, width = image.shape[:2]
    scale = size_px / max(height, width)
    new_height, new_width = (max(1, round(side * scale / stride)) * stride for side in (height, width))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (new_width, new_height), interpolation=interpolation), dtype=np.uint8)


def load_encoder(settings: FeatureSettings) -> PatchEncoder:
    """Return the encoder of the settings, built once in each process.

    Raises:
        InputError: weights that do not fit, or a size that makes more than `MAX_CELLS` patches or fewer than 4 a side.
    """
    path = settings.weights
    changed_ns = path.stat().st_mtime_ns if path is not None and path.is_file() else 0
    encoder = _load(settings.encoder, path, changed_ns, settings.pretrained, settings.output_stride)
    check_size(settings.size_px, encoder.encoder.stride)
    return encoder


def check_size(size_px: int, stride: int) -> None:
    """Raise `InputError` for a long side that makes more than `MAX_CELLS` patches or fewer than 4 a side."""
    side = size_px // stride
    if not 4 <= side <= MAX_CELLS**0.5:
        raise InputError(
            f"saliency feature_size_px {size_px} makes {side} patches of {stride} pixels a side; choose "
            f"{max(MIN_SIZE_PX, 4 * stride)} to {int(MAX_CELLS**0.5) * stride}"
        )


def feature_record(settings: FeatureSettings) -> FeatureRecord:
    """Return what the masks' folder must say of the weights; loads them, so that unusable ones are noticed first."""
    supervision = load_encoder(settings).supervision
    digest = None if settings.weights is None else file_sha256(settings.weights)
    return {"weights_sha256": digest, "supervision": supervision}


@functools.lru_cache(maxsize=1)
def _load(name: str, weights: Path | None, changed_ns: int, pretrained: bool, output_stride: int) -> PatchEncoder:
    return load_patch_encoder(name, weights=weights, pretrained=pretrained, output_stride=output_stride)
