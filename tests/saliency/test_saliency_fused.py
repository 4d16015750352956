"""The default estimator and the single-cue ones on hand-made images; the parts of the fusion against loops."""

import cv2
import numpy as np
import pytest

from densessl.saliency.estimators import find_estimator
from densessl.saliency.fused import central_appearance, fused, smooth, standardise
from densessl.saliency.proposals import SaliencySettings, estimate
from densessl.saliency.superpixels import segment

FEATURES = SaliencySettings().features
METHODS = ["fused", "robust_background", "barrier_distance", "spectral_residual", "centre"]


def scene(kind, height=120, width=160):
    generator = np.random.default_rng(4)
    mask = np.zeros((height, width), bool)
    if kind == "square":
        mask[height // 4 : 3 * height // 4, width // 4 : 5 * width // 8] = True
    else:
        rows, columns = np.mgrid[:height, :width]
        mask = ((rows - 0.55 * height) / (0.3 * height)) ** 2 + ((columns - 0.5 * width) / (0.2 * width)) ** 2 < 1
    body = np.array([170, 110, 60]) + generator.normal(0, 25, (height, width, 1))
    ground = np.array([90, 140, 90]) + generator.normal(0, 4, (height, width, 1))
    image = np.where(mask[..., None], cv2.GaussianBlur(body, (0, 0), 1), ground)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("kind", ["square", "ellipse"])
def test_a_textured_shape_on_a_plain_ground_is_found(kind):
    image, mask = scene(kind)
    assert overlap(estimate(image, SaliencySettings()) > 0.5, mask) > 0.8


def test_a_grey_photograph_is_found_too():
    image, mask = scene("square")
    grey = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    dark = np.where(mask[..., None], grey // 2, grey)
    assert overlap(estimate(dark, SaliencySettings()) > 0.5, mask) > 0.7


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (7, 5), (4, 900), (33, 47)])
def test_every_size_gives_a_finite_map(method, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for pixels in (image, np.zeros_like(image), np.full_like(image, 255)):
        soft = find_estimator(method, FEATURES)(pixels)
        assert soft.shape == shape
        assert soft.dtype == np.float32
        assert np.isfinite(soft).all()
        assert soft.min() >= 0
        assert soft.max() <= 1


@pytest.mark.parametrize("method", METHODS[:4])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_plain_image_has_no_foreground(method, level):
    assert (find_estimator(method, FEATURES)(np.full((90, 120, 3), level, np.uint8)) <= 0.5).all()


@pytest.mark.parametrize("method", ["robust_background", "barrier_distance"])
def test_single_cues_find_a_plain_square(method):
    image, mask = scene("square")
    assert overlap(find_estimator(method, FEATURES)(image) > 0.5, mask) > 0.7


def test_centre_crosses_half_on_the_ellipse():
    soft = find_estimator("centre", FEATURES)(np.zeros((100, 200, 3), np.uint8))
    rows, columns = np.mgrid[:100, :200]
    ellipse = ((rows + 0.5 - 50) / 40) ** 2 + ((columns + 0.5 - 100) / 80) ** 2 < 1
    np.testing.assert_array_equal(soft > 0.5, ellipse)


def test_same_image_same_map():
    image, _ = scene("ellipse")
    np.testing.assert_array_equal(fused(image), fused(image.copy()))


def test_central_appearance_equals_the_loop():
    regions = segment(np.random.default_rng(5).uniform(0, 50, (20, 30, 3)).astype(np.float32), num_regions=15)
    expected = []
    for own in regions.lab:
        kernel = [np.exp(-((own - other) ** 2).sum() / (2 * 10.0**2)) for other in regions.lab]
        centre = [
            area * np.exp(-(((y - 0.5) / 0.25) ** 2 + ((x - 0.5) / 0.25) ** 2) / 2)
            for area, (y, x) in zip(regions.area, regions.position, strict=True)
        ]
        middle = sum(k * c for k, c in zip(kernel, centre, strict=True)) / sum(centre)
        whole = sum(k * a for k, a in zip(kernel, regions.area, strict=True)) / sum(regions.area)
        expected.append(np.log((middle + 0.01) / (whole + 0.01)))
    np.testing.assert_allclose(central_appearance(regions, regions.lab), expected)


def test_standardised_values_have_mean_zero_and_spread_one_over_pixels():
    regions = segment(np.random.default_rng(5).uniform(0, 50, (20, 30, 3)).astype(np.float32), num_regions=15)
    values = regions.lab[:, 0] * 7 + 3
    pixels = standardise(values, regions)[regions.labels]
    assert pixels.mean() == pytest.approx(0, abs=1e-9)
    assert pixels.std() == pytest.approx(1)
    expected = (values[regions.labels] - values[regions.labels].mean()) / values[regions.labels].std()
    np.testing.assert_allclose(pixels, expected)


def test_rounding_noise_is_no_evidence():
    regions = segment(np.full((20, 30, 3), 50, np.float32), num_regions=15)
    noise = 4 + np.random.default_rng(7).uniform(0, 1e-4, len(regions))
    np.testing.assert_array_equal(standardise(noise, regions), 0)


def test_colours_that_look_the_same_have_no_foreground():
    image = np.full((90, 120, 3), 128, np.uint8)
    image[30:60, 40:80] += 1
    assert not fused(image).any()


def test_smoothing_minimises_its_energy():
    generator = np.random.default_rng(6)
    regions = segment(generator.uniform(0, 20, (20, 30, 3)).astype(np.float32), num_regions=15)
    evidence = generator.normal(size=len(regions))

    def energy(u):
        total = ((u - evidence) ** 2).sum()
        for a, b in regions.edges.T:
            total += 3.0 * np.exp(-((regions.lab[a] - regions.lab[b]) ** 2).sum() / 200) * (u[a] - u[b]) ** 2
        return total

    smoothed = smooth(evidence, regions)
    for _ in range(20):
        assert energy(smoothed) < energy(smoothed + generator.normal(scale=0.01, size=len(regions)))
