"""Texture: how strongly each place varies, in which direction and at which scale."""

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.colour import FloatMap, RegionValues, stretch
from densessl.saliency.superpixels import Superpixels

NUM_ORIENTATIONS = 4


def oriented_energy(lightness: FloatMap) -> NDArray[np.float32]:
    """Return the local energy of four oriented Gabor filters, (height, width, 4), at least 0.

    `lightness` (height, width) in [0, 100]. Filters of wavelength 4.5 px and width 1.8 px with their mean removed
    (Daugman, JOSA 1985); energy is the absolute response under a Gaussian of 2 px.
    """
    energies = []
    for turn in range(NUM_ORIENTATIONS):
        kernel = cv2.getGaborKernel((9, 9), 1.8, turn * np.pi / NUM_ORIENTATIONS, 4.5, 1.0)
        response = np.abs(cv2.filter2D(lightness, cv2.CV_32F, (kernel - kernel.mean()).astype(np.float32)))
        energies.append(cv2.GaussianBlur(response, (0, 0), 2))
    return np.stack(energies, axis=2)


def texture_features(energy: NDArray[np.float32], regions: Superpixels) -> NDArray[np.float64]:
    """Return `log(1 + e)` for the mean energies e (height, width, 4) of each region, (n, 4)."""
    return np.log1p(np.stack([regions.mean(energy[..., turn]) for turn in range(NUM_ORIENTATIONS)], axis=1))


def texture_contrast(texture: NDArray[np.float64], regions: Superpixels) -> RegionValues:
    """Return how far each region's texture is from that of the image's edge, (n,), stretched to [0, 1].

    The mean Euclidean distance to the nearest quarter of the border regions, so that an object cut by the edge does
    not count as its own background.
    """
    on_border = texture[regions.border > 0]
    distance = np.sqrt(((texture[:, None] - on_border[None]) ** 2).sum(axis=2))  # (n, num_border)
    num_nearest = max(1, len(on_border) // 4)
    return stretch(np.partition(distance, num_nearest - 1, axis=1)[:, :num_nearest].mean(axis=1))


def variation(fine_lightness: FloatMap, lightness: FloatMap) -> tuple[FloatMap, FloatMap]:
    """Return how much an image varies at a coarse and at the finest scale, two maps of the shape of `lightness`.

    Coarse: the gradient at the working size, under a Gaussian of 4 px. Fine: what a 1-pixel blur removes from
    `fine_lightness`, the image at up to twice that size, under a Gaussian of 6 px. Lightness in any unit.
    """
    height, width = lightness.shape
    right = cv2.Sobel(lightness, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(lightness, cv2.CV_32F, 0, 1)
    coarse = cv2.GaussianBlur(np.sqrt(right**2 + down**2), (0, 0), 4)
    removed = np.abs(fine_lightness - cv2.GaussianBlur(fine_lightness, (0, 0), 1))
    fine = cv2.resize(cv2.GaussianBlur(removed, (0, 0), 6), (width, height), interpolation=cv2.INTER_AREA)
    return coarse, fine


def coarseness(coarse: FloatMap, fine: FloatMap, regions: Superpixels) -> RegionValues:
    """Return the log ratio of coarse to fine variation in each region, (n,), within [-3.1, 3.1].

    Grass, leaves and gravel vary at the finest scale, bodies at a coarser one. Both maps are averaged over regions
    and stretched to [0, 1] before `log((coarse + 0.05) / (fine + 0.05))`.
    """
    return np.log((stretch(regions.mean(coarse)) + 0.05) / (stretch(regions.mean(fine)) + 0.05))
