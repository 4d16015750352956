"""Principal components of patch features as colours: one basis for a set of images, the background removed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError

FeatureMap = NDArray[np.float32]  # (height, width, dim)
RANGE = (1.0, 99.0)
"""Percentiles, over all patches that are coloured, that become the darkest and the brightest of a colour channel."""


@dataclass(frozen=True)
class ColourBasis:
    """What turns features into colours, the same for all images.

    mean: (dim,) of all patches. first: (dim,) their first component, unit length, pointing to the foreground, where its
    coordinate is above 0. has_background: whether patches of the other side are left out; where all patches are alike
    there is no other side, and nothing is left out. centre: (dim,), the mean of
    the patches that are coloured. components: (3, dim), theirs, unit length. low, high: (3,) coordinates that become 0
    and 1.
    """

    mean: NDArray[np.float64]
    first: NDArray[np.float64]
    has_background: bool
    centre: NDArray[np.float64]
    components: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def colour(self, features: FeatureMap) -> "ColouredPatches":
        """Return the colours of an image's patches, features (height, width, dim)."""
        shares = (_coordinates(features, self.centre, self.components) - self.low) / (self.high - self.low)
        foreground = self.foreground(features)
        rgb = np.where(foreground[..., None], shares.clip(0, 1), 0.0).astype(np.float32)
        return ColouredPatches(rgb, foreground)

    def foreground(self, features: FeatureMap) -> NDArray[np.bool_]:
        """Return which patches (height, width) are coloured."""
        if not self.has_background:
            return np.ones(features.shape[:2], dtype=np.bool_)
        return _coordinates(features, self.mean, self.first[None])[..., 0] > 0


@dataclass(frozen=True)
class ColouredPatches:
    """Colours of an image's patches: rgb float32 (height, width, 3) in [0, 1], 0 in the background; foreground bool."""

    rgb: NDArray[np.float32]
    foreground: NDArray[np.bool_]


def pca_rgb(features: Sequence[FeatureMap], *, remove_background: bool = True) -> list[ColouredPatches]:
    """Return the first three principal components of patch features as red, green and blue, one basis for all images.

    As in DINOv2 (Oquab et al. 2023, figure 1): the first component over all patches parts foreground from background,
    and the components of the foreground alone are the colours. The paper chooses side and threshold by hand; here the
    threshold is 0, the mean, and the foreground is the side that the borders of the images have less of.

    Args:
        features: (height, width, dim) of each image; sizes may differ, dim not.
        remove_background: colour the foreground only; otherwise all patches, by their own components.

    Raises:
        InputError: no image, other dims, or fewer than 3 dims.
    """
    basis = fit_colour_basis(lambda: features, remove_background=remove_background)
    return [basis.colour(item) for item in features]


def fit_colour_basis(features: Callable[[], Iterable[FeatureMap]], *, remove_background: bool = True) -> ColourBasis:
    """Fit the basis of `pca_rgb` to any number of images, one in memory at a time; `features` is called five times."""
    mean, axes = _principal_axes(features(), lambda item: np.ones(item.shape[:2], dtype=np.bool_), 1)
    first = axes[0] * _side_away_from_borders(features(), mean, axes[0])
    has_background = remove_background and any((_coordinates(item, mean, first[None]) > 0).any() for item in features())
    whole = ColourBasis(mean, first, has_background, mean, axes, np.zeros(3), np.ones(3))
    centre, components = _principal_axes(features(), whole.foreground, 3)
    coloured = np.concatenate(
        [_coordinates(item, centre, components)[whole.foreground(item)] for item in features()]
    )  # (patches, 3)
    low, high = np.percentile(coloured, RANGE, axis=0)
    return ColourBasis(mean, first, has_background, centre, components, low, np.where(high > low, high, low + 1))


def _principal_axes(
    features: Iterable[FeatureMap], chosen: Callable[[FeatureMap], NDArray[np.bool_]], num_axes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean (dim,) and first axes (num_axes, dim) of the chosen patches; their largest entry is above 0."""
    count, total, products = 0, np.zeros(0), np.zeros((0, 0))
    for item in features:
        rows = item[chosen(item)].astype(np.float64)  # (patches, dim)
        if count == 0 and total.size == 0:
            total, products = np.zeros(item.shape[2]), np.zeros((item.shape[2], item.shape[2]))
        if item.shape[2] != total.size:
            raise InputError(f"features have {item.shape[2]} channels after {total.size}; all must be of one encoder")
        count, total, products = count + len(rows), total + rows.sum(0), products + rows.T @ rows
    if count < 1 or total.size < 3:
        raise InputError(
            f"principal components need a patch and 3 channels at least, found {count} and {total.size}; give an image"
        )
    mean = total / count
    _, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    axes = vectors[:, ::-1][:, :num_axes].T
    largest = np.abs(axes).argmax(axis=1)
    signs = np.sign(axes[np.arange(num_axes), largest])
    return mean, axes * signs[:, None]


def _side_away_from_borders(
    features: Iterable[FeatureMap], mean: NDArray[np.float64], axis: NDArray[np.float64]
) -> int:
    """Return 1 where the borders of the images lie lower on the axis than the rest, else -1."""
    border, inner = [], []
    for item in features:
        along = _coordinates(item, mean, axis[None])[..., 0]
        is_border = np.ones(along.shape, dtype=np.bool_)
        is_border[1:-1, 1:-1] = False
        border.append(along[is_border])
        inner.append(along[~is_border])
    inside = np.concatenate(inner)
    return -1 if inside.size and np.concatenate(border).mean() > inside.mean() else 1


def _coordinates(features: FeatureMap, centre: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (features.astype(np.float64) - centre) @ axes.T
