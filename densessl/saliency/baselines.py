"""Single-cue estimators, to compare the default with: each is one published idea and nothing else."""

import cv2
import numpy as np
import scipy.fft

from densessl.saliency.barrier_distance import barrier_distance as distance_to_border
from densessl.saliency.colour import FloatMap, balance, resize_map, shrink, to_lab
from densessl.saliency.mb_plus import mb_plus as minimum_barrier_saliency
from densessl.saliency.robust_background import robust_background as optimise_saliency
from densessl.saliency.superpixels import segment
from densessl.structures import ImageArray

WORKING_SIZE_PX = 160
SPECTRUM_SIZE_PX = 64
FREQUENCY_TUNED_SIZE_PX = 400
"""Long side of the photographs that the method was published on; its blur is five pixels of theirs."""
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def robust_background(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Zhu et al., CVPR 2014, with colour as the only feature."""
    regions = segment(to_lab(shrink(image, WORKING_SIZE_PX)))
    return _finish(regions.paint(optimise_saliency(regions, regions.lab)), image)


def barrier_distance(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Zhang et al., ICCV 2015, without its post-processing."""
    lab = cv2.GaussianBlur(to_lab(shrink(image, WORKING_SIZE_PX)), (0, 0), 1)
    return _finish(distance_to_border(lab), image)


def mb_plus(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Zhang et al., ICCV 2015, in full: their MB+."""
    return _finish(minimum_barrier_saliency(image), image)


def frequency_tuned(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Achanta, Hemami, Estrada, Süsstrunk, CVPR 2009.

    `|m - g(x)|` in Lab, m the mean colour of the image and g the image blurred by a 5 x 5 binomial kernel. Images
    larger than the published ones, 400 pixels, are shrunk to that size.
    """
    lab = to_lab(shrink(image, FREQUENCY_TUNED_SIZE_PX))
    blurred = cv2.sepFilter2D(lab, -1, BINOMIAL, BINOMIAL)
    distance = np.linalg.norm(blurred - lab.mean(axis=(0, 1), dtype=np.float64), axis=2)
    return _finish(distance.astype(np.float32), image)


def spectral_residual(image: ImageArray) -> FloatMap:
    """Return the map (height, width), in [0, 1], of Hou and Zhang, CVPR 2007, at 64 x 64.

    `|ifft(exp(R + i phase))|^2` blurred with a Gaussian of 2.5 px, R = log amplitude minus its 3 x 3 mean; the
    exponential equals the spectrum F times `exp(-mean of log |F|)`. The width of the Gaussian is that of the authors'
    published program (the paper names 8). The spectrum is periodic, and so is its mean here. Deviation: the image is
    brought to a square.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    side = (SPECTRUM_SIZE_PX, SPECTRUM_SIZE_PX)
    square = cv2.resize(grey, side, interpolation=cv2.INTER_AREA)
    if np.ptp(square) < 1e-3:  # without structure, the residual is rounding noise
        return np.zeros(grey.shape, dtype=np.float32)
    spectrum = scipy.fft.fft2(square)
    # Frequencies that do not occur get a finite logarithm.
    log_amplitude = np.log(np.abs(spectrum) + 1e-6)
    mean = cv2.blur(cv2.copyMakeBorder(log_amplitude, 1, 1, 1, 1, cv2.BORDER_WRAP), (3, 3))[1:-1, 1:-1]
    # In units of its mean, about one over the number of pixels: far above what counts as rounding noise.
    energy = SPECTRUM_SIZE_PX**2 * np.abs(scipy.fft.ifft2(spectrum * np.exp(-mean))) ** 2
    return _finish(np.asarray(cv2.GaussianBlur(energy, (0, 0), 2.5), dtype=np.float32), image)


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
