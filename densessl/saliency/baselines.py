"""Single-cue estimators, to compare the default with: each is one published idea and nothing else."""

import cv2
import numpy as np

from densessl.saliency.barrier_distance import barrier_distance as distance_to_border
from densessl.saliency.colour import FloatMap, balance, resize_map, shrink, to_lab
from densessl.saliency.robust_background import robust_background as optimise_saliency
from densessl.saliency.superpixels import segment
from densessl.structures import ImageArray

WORKING_SIZE_PX = 160
SPECTRUM_SIZE_PX = 64


def robust_background(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Zhu et al., CVPR 2014, with colour as the only feature."""
    regions = segment(to_lab(shrink(image, WORKING_SIZE_PX)))
    return _finish(regions.paint(optimise_saliency(regions, regions.lab)), image)


def barrier_distance(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Zhang et al., ICCV 2015, without its post-processing."""
    lab = cv2.GaussianBlur(to_lab(shrink(image, WORKING_SIZE_PX)), (0, 0), 1)
    return _finish(distance_to_border(lab), image)


def spectral_residual(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Hou and Zhang, CVPR 2007, at 64 x 64.

    `|ifft(exp(R + i phase))|^2` blurred with a Gaussian of 3 px, R = log amplitude minus its 3 x 3 mean.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = (SPECTRUM_SIZE_PX, SPECTRUM_SIZE_PX)
    square = cv2.resize(grey, side, interpolation=cv2.INTER_AREA)
    if np.ptp(square) < 1e-3:  # without structure, the residual is rounding noise
        return np.zeros(grey.shape, dtype=np.float32)
    spectrum = np.fft.fft2(square)
    # Frequencies that do not occur get a finite logarithm.
    log_amplitude = np.log(np.abs(spectrum) + 1e-6)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3))
    energy = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    return _finish(cv2.GaussianBlur(energy, (0, 0), 3).astype(np.float32), image)


def centre(image: ImageArray) -> FloatMap:
    """Return a map (height, width), in [0, 1], that is 0.5 on the ellipse of 0.8 of the image's height and width.

    It looks at the size of the image and nothing else: the floor that every estimator has to beat.
    """
    height, width = image.shape[:2]
    down = ((np.arange(height) + 0.5) / height - 0.5) / 0.4
    right = ((np.arange(width) + 0.5) / width - 0.5) / 0.4
    return (0.5 ** (down[:, None] ** 2 + right[None] ** 2)).astype(np.float32)


def _finish(values: FloatMap, image: ImageArray) -> FloatMap:
    return resize_map(balance(values), image.shape[0], image.shape[1])
