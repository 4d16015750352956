"""Texture: how strongly each place varies, in which direction and at which scale."""

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.colour import FloatMap, RegionValues, stretch
from densessl.saliency.superpixels import Superpixels

NUM_ORIENTATIONS = 4
WAVELENGTH_PX = 4.0
"""The shortest wave that a filter can tell in every direction: twice that of Nyquist's limit."""
ENVELOPE_PX = 0.56 * WAVELENGTH_PX
"""Width of the filters' Gaussian at a bandwidth of one octave (Petkov, Kruizinga, Biological Cybernetics 1997)."""


def oriented_energy(lightness: FloatMap) -> NDArray[np.float32]:
    """Return the absolute response to Gabor filters in four directions, (height, width, 4).

    `lightness` (height, width) in [0, 100]. The filters (Daugman, JOSA 1985) have their mean removed.
    """
    energies = []
    for turn in range(NUM_ORIENTATIONS):
        direction = turn * np.pi / NUM_ORIENTATIONS
        kernel = cv2.getGaborKernel((13, 13), ENVELOPE_PX, direction, WAVELENGTH_PX, 1.0)
        kernel = (kernel - kernel.mean()).astype(np.float32)
        energies.append(np.abs(cv2.filter2D(lightness, cv2.CV_32F, kernel)))
    return np.stack(energies, axis=2)


def texture_features(energy: NDArray[np.float32], regions: Superpixels) -> NDArray[np.float64]:
    """Return `log(1 + e)` for the mean energies e (height, width, 4) of each region, (n, 4)."""
    return np.log1p(np.stack([regions.mean(energy[..., turn]) for turn in range(NUM_ORIENTATIONS)], axis=1))


def texture_contrast(texture: NDArray[np.float64], regions: Superpixels) -> RegionValues:
    """Return how far each region's texture is from that of the image's edge, (n,), stretched to [0, 1].

    The mean Euclidean distance to the nearest quarter of the border regions: one of the four sides is taken to show
    background, so that an object cut by the edge does not count as its own background.
    """
    on_border = texture[regions.border > 0]
    distance = np.sqrt(((texture[:, None] - on_border[None]) ** 2).sum(axis=2))  # (n, num_border)
    num_nearest = max(1, len(on_border) // 4)
    return stretch(np.partition(distance, num_nearest - 1, axis=1)[:, :num_nearest].mean(axis=1))


def variation(fine_lightness: FloatMap, lightness: FloatMap) -> tuple[FloatMap, FloatMap]:
    """Return how much an image varies at a coarse and at the finest scale, two maps of the shape of `lightness`.

    Coarse: the length of the gradient at the working size. Fine: what a 1-pixel blur removes from `fine_lightness`,
    the image at up to twice that size. Lightness in any unit.
    """
    height, width = lightness.shape
    right = cv2.Sobel(lightness, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(lightness, cv2.CV_32F, 0, 1)
    removed = np.abs(fine_lightness - cv2.GaussianBlur(fine_lightness, (0, 0), 1))
    return np.sqrt(right**2 + down**2), cv2.resize(removed, (width, height), interpolation=cv2.INTER_AREA)


def coarseness(coarse: FloatMap, fine: FloatMap, regions: Superpixels) -> RegionValues:
    """Return the log ratio of coarse to fine variation in each region, (n,): `log((1 + coarse) / (1 + fine))`.

    Grass, leaves and gravel vary at the finest scale, bodies at a coarser one. Both maps, at least 0, are averaged
    over regions first.
    """
    return np.log1p(regions.mean(coarse)) - np.log1p(regions.mean(fine))
