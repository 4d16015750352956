"""The default estimator: six cues on superpixels, added up as evidence, smoothed, averaged over two scales."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.barrier_distance import barrier_distance
from densessl.saliency.colour import FloatMap, LabImage, RegionValues, resize_map, shrink, stretch, to_lab
from densessl.saliency.robust_background import graph_laplacian, pairwise_distance, robust_background
from densessl.saliency.superpixels import Superpixels, segment
from densessl.saliency.texture import coarseness, oriented_energy, texture_contrast, texture_features, variation
from densessl.structures import ImageArray

WORKING_SIZE_PX = 160
NUM_REGIONS = (120, 250)
"""Superpixels at each of the scales whose evidence is averaged."""
TEXTURE_WEIGHT = 6.0
"""How many Lab units one unit of log texture energy is worth."""
CENTRE_SCALE = 0.2
"""Width of the Gaussian that says which colours are central, as a fraction of height and width."""
APPEARANCE_BANDWIDTH = 8.0
SMOOTHING = 3.0
SMOOTHING_SCALE = 10.0


@dataclass(frozen=True)
class PixelCues:
    """What is measured at every pixel of the working copy, (height, width) each, before any region is cut."""

    barrier: FloatMap
    texture_energy: NDArray[np.float32]  # (height, width, 4)
    coarse: FloatMap
    fine: FloatMap


def fused(image: ImageArray) -> FloatMap:
    """Return the soft foreground map (height, width), in [0, 1], of a uint8 RGB image (height, width, 3).

    Six cues per superpixel are added up as log odds (`log_odds`), smoothed between neighbours of like colour
    (`smooth`), and averaged over two sizes of superpixels. The weights of the sum are the rounded coefficients of a
    logistic regression on label-checked development photographs; nothing else is learned. 0.5 is where the mean
    IoU was best there, not where foreground and background are equally likely.
    """
    lab = to_lab(shrink(image, WORKING_SIZE_PX))
    cues = measure_pixels(image, lab)
    evidence = np.zeros(lab.shape[:2], dtype=np.float32)
    for num_regions in NUM_REGIONS:
        regions = segment(lab, num_regions)
        evidence += regions.paint(smooth(log_odds(cues, regions), regions)) / len(NUM_REGIONS)
    probability = np.asarray(1 / (1 + np.exp(-evidence)), dtype=np.float32)
    return resize_map(probability, image.shape[0], image.shape[1])


def measure_pixels(image: ImageArray, lab: LabImage) -> PixelCues:
    """Return the pixel cues of an image, given also as its working copy `lab`."""
    lightness = np.ascontiguousarray(lab[..., 0])
    fine_lightness = cv2.cvtColor(shrink(image, 2 * WORKING_SIZE_PX), cv2.COLOR_RGB2GRAY).astype(np.float32)
    coarse, fine = variation(fine_lightness, lightness)
    return PixelCues(
        barrier=barrier_distance(cv2.GaussianBlur(lab, (0, 0), 1)),
        texture_energy=oriented_energy(lightness),
        coarse=coarse,
        fine=fine,
    )


def log_odds(cues: PixelCues, regions: Superpixels) -> RegionValues:
    """Return the evidence for foreground in each region, (n,), as natural log odds."""
    texture = texture_features(cues.texture_energy, regions)
    features = np.concatenate([regions.lab, TEXTURE_WEIGHT * texture], axis=1)
    return (
        1.5 * robust_background(regions, features)
        + 1.0 * texture_contrast(texture, regions)
        + 2.2 * central_appearance(regions, features)
        + 1.1 * stretch(regions.mean(cues.barrier))
        + 0.8 * coarseness(cues.coarse, cues.fine, regions)
        + 0.8 * regions.position[:, 0]  # things stand on the ground
        - 1.7
    )


def central_appearance(regions: Superpixels, features: NDArray[np.float64]) -> RegionValues:
    """Return how much more common each region's appearance is at the centre than in the whole image, (n,), log ratio.

    `log((k * centre + 0.01) / (k * whole + 0.01))` with k a Gaussian kernel over `features` (n, any) in Lab units,
    `whole` the regions' areas and `centre` the areas weighted by a Gaussian around the middle, both summing to 1.
    """
    kernel = np.exp(-(pairwise_distance(features) ** 2) / (2 * APPEARANCE_BANDWIDTH**2))
    offset = (regions.position - 0.5) / CENTRE_SCALE
    centre = regions.area * np.exp(-(offset**2).sum(axis=1) / 2)
    density_centre = kernel @ (centre / centre.sum())
    density_whole = kernel @ (regions.area / regions.area.sum())
    return np.log((density_centre + 0.01) / (density_whole + 0.01))


def smooth(evidence: RegionValues, regions: Superpixels) -> RegionValues:
    """Return the minimiser u of `sum_i (u_i - e_i)^2 + sum_ij w_ij (u_i - u_j)^2`, (n,), over neighbours ij.

    `w_ij = SMOOTHING exp(-|c_i - c_j|^2 / 2 SMOOTHING_SCALE^2)` with c the mean Lab colours; the random-walker energy
    of Grady, TPAMI 2006, with the evidence as a prior.
    """
    first, second = regions.edges
    contrast = ((regions.lab[first] - regions.lab[second]) ** 2).sum(axis=1)
    weights = SMOOTHING * np.exp(-contrast / (2 * SMOOTHING_SCALE**2))
    system = np.eye(len(regions)) + graph_laplacian(len(regions), regions.edges, weights)
    return np.asarray(np.linalg.solve(system, evidence))
