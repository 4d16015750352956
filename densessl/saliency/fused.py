"""The default estimator: six cues on superpixels, standardised, added up, smoothed, averaged over two scales.

No constant of it comes from labels of photographs. Each is published (the source stands beside it), follows from
another one, bounds the time, or, where it says so, was compared on rendered scenes (`densessl.data.synthetic`). The
list of cues was drawn up with labelled photographs at hand; docs/saliency.md says what was looked at.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from densessl.saliency.barrier_distance import barrier_distance
from densessl.saliency.colour import FloatMap, LabImage, RegionValues, balance, resize_map, shrink, to_lab
from densessl.saliency.robust_background import (
    APPEARANCE_SCALE,
    SPATIAL_SCALE,
    graph_laplacian,
    pairwise_distance,
    robust_background,
)
from densessl.saliency.superpixels import Superpixels, segment
from densessl.saliency.texture import coarseness, oriented_energy, texture_contrast, texture_features, variation
from densessl.structures import ImageArray

WORKING_SIZE_PX = 160
"""Long side of the copy that is worked on; bounds the time."""
NUM_REGIONS = (140, 280)
"""Superpixels at the scales whose evidence is averaged: half an octave around the 200 of Yang et al., CVPR 2013."""
TEXTURE_WEIGHT = APPEARANCE_SCALE
"""Lab units that a factor e in texture energy is worth: one width of the Gaussians over appearance distances."""
DENSITY_FLOOR = 0.01
"""Density below which appearances count as equally rare: the share of the image of the smallest part that is kept."""
SMOOTHING = 3.0
"""Strength of the smoothing; 1, 3 and 10 were compared on 100 rendered scenes."""
ABOVE_OTSU = 1.0
"""How far above Otsu's threshold foreground begins: one standard deviation of one cue. Otsu's leans towards halves;
with this, masks cover as much of a photograph as those of a self-trained network do (docs/saliency.md)."""
NOTICEABLE_DIFFERENCE = 2.3
"""Lab units below which colours look the same (Mahy, Van Eycken, Oosterlinck, Color Research & Application 1994)."""


@dataclass(frozen=True)
class PixelCues:
    """What is measured at every pixel of the working copy, (height, width) each, before any region is cut."""

    barrier: FloatMap
    texture_energy: NDArray[np.float32]  # (height, width, 4)
    coarse: FloatMap
    fine: FloatMap


def fused(image: ImageArray) -> FloatMap:
    """Return the soft foreground map (height, width), in [0, 1], of a uint8 RGB image (height, width, 3).

    The six cues of each superpixel (`measure_regions`) are standardised over the image and added up with equal
    weights; the sum is smoothed between neighbours of like colour (`smooth`) and averaged over two sizes of
    superpixels. Otsu's threshold of the result, raised by `ABOVE_OTSU`, becomes 0.5 (`balance`). An image without a
    noticeable difference of colour is all background.
    """
    height, width = image.shape[:2]
    lab = to_lab(shrink(image, WORKING_SIZE_PX))
    if np.ptp(lab, axis=(0, 1)).max() < NOTICEABLE_DIFFERENCE:
        return np.zeros((height, width), dtype=np.float32)
    cues = measure_pixels(image, lab)
    evidence = np.zeros(lab.shape[:2], dtype=np.float32)
    for num_regions in NUM_REGIONS:
        regions = segment(lab, num_regions)
        total = sum(standardise(cue, regions) for cue in measure_regions(cues, regions))
        evidence += regions.paint(smooth(np.asarray(total), regions)) / len(NUM_REGIONS)
    return resize_map(balance(evidence, ABOVE_OTSU), height, width)


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


def measure_regions(cues: PixelCues, regions: Superpixels) -> tuple[RegionValues, ...]:
    """Return the six cues of each region, (n,) each, in units of their own; larger means foreground."""
    texture = texture_features(cues.texture_energy, regions)
    features = np.concatenate([regions.lab, TEXTURE_WEIGHT * texture], axis=1)
    return (
        robust_background(regions, features),
        regions.mean(cues.barrier),
        central_appearance(regions, features),
        texture_contrast(texture, regions),
        coarseness(cues.coarse, cues.fine, regions),
        regions.position[:, 0],  # things stand on the ground
    )


def standardise(values: RegionValues, regions: Superpixels, min_spread: float = 1e-3) -> RegionValues:
    """Return `(values - mean) / standard deviation`, (n,), over the pixels of the image.

    Zeros where the standard deviation is below `min_spread`, which keeps rounding noise from becoming evidence.
    """
    centred = values - np.average(values, weights=regions.area)
    spread = np.average(centred**2, weights=regions.area) ** 0.5
    return centred / spread if spread >= min_spread else np.zeros_like(values)


def central_appearance(regions: Superpixels, features: NDArray[np.float64]) -> RegionValues:
    """Return how much more common each region's appearance is at the centre than in the whole image, (n,), log ratio.

    `log((k * centre + floor) / (k * whole + floor))` with k a Gaussian of width `APPEARANCE_SCALE` over `features` (n,
    any) in Lab units, `whole` the regions' areas, `centre` the areas weighted by a Gaussian of width `SPATIAL_SCALE`
    around the middle, both summing to 1, and floor `DENSITY_FLOOR`.
    """
    kernel = np.exp(-(pairwise_distance(features) ** 2) / (2 * APPEARANCE_SCALE**2))
    offset = (regions.position - 0.5) / SPATIAL_SCALE
    centre = regions.area * np.exp(-(offset**2).sum(axis=1) / 2)
    density_centre = kernel @ (centre / centre.sum())
    density_whole = kernel @ (regions.area / regions.area.sum())
    return np.log((density_centre + DENSITY_FLOOR) / (density_whole + DENSITY_FLOOR))


def smooth(evidence: RegionValues, regions: Superpixels) -> RegionValues:
    """Return the minimiser u of `sum_i (u_i - e_i)^2 + sum_ij w_ij (u_i - u_j)^2`, (n,), over neighbours ij.

    `w_ij = SMOOTHING exp(-|c_i - c_j|^2 / 2 APPEARANCE_SCALE^2)` with c the mean Lab colours; the random-walker energy
    of Grady, TPAMI 2006, with the evidence as a prior.
    """
    first, second = regions.edges
    contrast = ((regions.lab[first] - regions.lab[second]) ** 2).sum(axis=1)
    weights = SMOOTHING * np.exp(-contrast / (2 * APPEARANCE_SCALE**2))
    system = np.eye(len(regions)) + graph_laplacian(len(regions), regions.edges, weights)
    return np.asarray(np.linalg.solve(system, evidence))
