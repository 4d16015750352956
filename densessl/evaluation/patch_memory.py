"""A bounded memory of training patches: unit features with the histogram of the classes below them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes, LabelledFeatures, check_finite, class_shares
from densessl.evaluation.labelled_protocols import HummingbirdSettings
from densessl.structures import IGNORE


@dataclass(frozen=True)
class PatchMemory:
    """Patches of training images, `4 (dim + num_classes)` bytes each.

    features: float32 (num_patches, dim), unit length (zero for a patch without length).
    shares: float32 (num_patches, num_classes), the share of each class among the labelled pixels of the patch; rows sum
        to 1. classes: of the columns; a class without patches has a column of zeros.
    notes: what a reader must know, in words.
    """

    features: NDArray[np.float32]
    shares: NDArray[np.float32]
    classes: Classes
    notes: tuple[str, ...]


def build_memory(
    images: Iterable[LabelledFeatures],
    num_images: int,
    classes: Classes,
    settings: HummingbirdSettings,
    seed: int,
) -> PatchMemory:
    """Fill the memory: every image gives `memory_size // num_images` patches, drawn by `sample_patches`, or all it has.

    Args:
        images: read one at a time. Augmented passes over the images come one after the other.
        num_images: how many `images` yields, all passes together.
        classes: what is transferred.
        settings: memory_size, and what becomes of ignored pixels.
        seed: of the draws.

    Raises:
        InputError: a memory smaller than the number of images; more images than `num_images`; features that are not
            finite, or a label outside the range (each names the image); no labelled pixel at all.
    """
    quota = settings.memory_size // max(1, num_images)
    if quota == 0:
        raise InputError(
            f"a memory of {settings.memory_size} patches cannot hold one of each of {num_images} images; raise "
            f"hummingbird.memory_size to {num_images} at least"
        )
    filling = _Filling(quota * num_images)
    generator = np.random.default_rng(seed)
    for number, image in enumerate(images):
        if number == num_images:
            raise InputError(f"more images came than the {num_images} that the memory was to be filled from")
        check_finite(image.features, image.stem)
        histograms = _histograms(image, classes, settings)
        rows = sample_patches(histograms, quota, generator)
        filling.add(image.features.reshape(len(image.features), -1).T[rows], histograms[rows], image.stem)
    features, shares = filling.result()
    if len(shares) == 0:
        raise InputError(
            f"no pixel of the {num_images} training images is labelled with one of the classes {list(classes.labels)}; "
            "check the labels and the list of classes"
        )
    return PatchMemory(features, shares, classes, _notes(shares, classes))


def sample_patches(shares: NDArray[np.float32], num_patches: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw patches of one image, those with rare classes more often: int64 (at most num_patches,), rows of `shares`.

    With f_c the number of the image's patches in which class c occurs, the score of a patch is `u sum_c f_c` over its
    classes, u uniform in [0, 1); the lowest scores are chosen, as in open-hummingbird-eval.

    Args:
        shares: (num_cells, num_classes), how much of each patch every class covers; a patch of zeros is never drawn.
        num_patches: the most to draw.
        generator: one number is drawn for each patch.
    """
    occurs = shares > 0
    frequency = occurs.sum(axis=0)
    scores = (occurs @ frequency) * generator.random(len(shares))
    scores[~occurs.any(axis=1)] = np.inf
    lowest_first = np.argsort(scores, kind="stable")
    return lowest_first[: min(num_patches, int(occurs.any(axis=1).sum()))]


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Divide rows (num, dim) by their length; a row of zeros stays zero."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1), dtype=np.float32)


class _Filling:
    """Rows of features and histograms, written in place, so that nothing is held twice."""

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows
        self._filled = 0
        self._features = np.empty((0, 0), dtype=np.float32)
        self._shares = np.empty((0, 0), dtype=np.float32)

    def add(self, patches: NDArray[np.floating], histograms: NDArray[np.float32], stem: str) -> None:
        """Add patches (num, dim), brought to unit length, and their histograms (num, num_classes), to a sum of 1."""
        if self._filled == 0:
            self._features = np.empty((self._num_rows, patches.shape[1]), dtype=np.float32)
            self._shares = np.empty((self._num_rows, histograms.shape[1]), dtype=np.float32)
        if patches.shape[1] != self._features.shape[1]:
            raise InputError(
                f"features of image {stem!r} have {patches.shape[1]} dimensions, those before "
                f"{self._features.shape[1]}; use one encoder for all images"
            )
        rows = slice(self._filled, self._filled + len(patches))
        self._features[rows] = unit_rows(patches)
        self._shares[rows] = histograms / histograms.sum(axis=1, keepdims=True)
        self._filled += len(patches)

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._features[: self._filled], self._shares[: self._filled]


def _histograms(image: LabelledFeatures, classes: Classes, settings: HummingbirdSettings) -> NDArray[np.float32]:
    if settings.void == "background":
        image = replace(image, labels=np.where(image.labels == IGNORE, 0, image.labels))
    grid = (image.features.shape[1], image.features.shape[2])
    return class_shares(image.labels, grid, classes, image.stem)


def _notes(shares: NDArray[np.float32], classes: Classes) -> tuple[str, ...]:
    is_held = np.asarray(shares.any(axis=0))
    absent = [label for column, label in enumerate(classes.labels) if not is_held[column]]
    return (f"classes {absent} have no patch in memory and are never predicted",) if absent else ()
