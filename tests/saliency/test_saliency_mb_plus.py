"""MB+: each of its equations by hand or as a loop, reconstruction against an exact one and scikit-image's."""

import numpy as np
import pytest
from scipy.ndimage import label

from densessl.saliency import mb_plus as module
from densessl.saliency.estimators import find_estimator
from densessl.saliency.mb_plus import (
    boundary_contrast,
    centredness,
    mb_plus,
    post_process,
    reconstruct,
    scale_to_one,
    smooth_by_reconstruction,
    strip_contrast,
)
from densessl.saliency.proposals import SaliencySettings


def exact_reconstruction(marker, ceiling):
    """At each level, keep the parts of the ceiling that hold a pixel of the marker."""
    result = np.full(ceiling.shape, ceiling.min())
    for level in np.unique(ceiling):
        parts, _ = label(ceiling >= level, np.ones((3, 3)))
        result[np.isin(parts, np.unique(parts[(marker >= level) & (parts > 0)]))] = level
    return result


def test_strip_contrast_equals_the_loop():
    generator = np.random.default_rng(0)
    levels = generator.uniform(0, 200, (5, 7, 3)).astype(np.float32)
    strip = levels[:2]
    pixels = strip.reshape(-1, 3).astype(float)
    mean = sum(pixels) / len(pixels)
    covariance = sum(np.outer(p - mean, p - mean) for p in pixels) / len(pixels) + 50 * np.eye(3)
    expected = [
        [np.sqrt((levels[y, x] - mean) @ np.linalg.inv(covariance) @ (levels[y, x] - mean)) for x in range(7)]
        for y in range(5)
    ]
    np.testing.assert_allclose(strip_contrast(levels, strip), expected, rtol=1e-5)


def test_strip_contrast_by_hand():
    levels = np.zeros((1, 2, 3), np.float32)
    levels[0, 1] = (10, 20, 30)
    expected = np.sqrt((100 + 400 + 900) / 50)  # one colour has no spread of its own: the ridge alone counts
    np.testing.assert_allclose(strip_contrast(levels, levels[:, :1]), [[0, expected]], rtol=1e-6)


def test_boundary_contrast_is_the_sum_less_the_largest():
    levels = np.random.default_rng(1).uniform(0, 255, (20, 31, 3)).astype(np.float32)
    maps = [strip_contrast(levels, strip) for strip in (levels[:2], levels[-2:], levels[:, :3], levels[:, -3:])]
    maps = [values / values.max() for values in maps]
    expected = np.sum(maps, axis=0) - np.max(maps, axis=0)
    np.testing.assert_allclose(boundary_contrast(levels), expected / expected.max(), rtol=1e-5)


def test_an_object_that_fills_one_strip_is_forgiven():
    levels = np.full((40, 60, 3), 100, np.float32)
    levels[20:, 5:55] = 180  # stands on the lower edge
    contrast = boundary_contrast(levels)
    assert contrast[25:35, 10:50].min() > 0.9
    assert contrast[:20].max() < 0.5


def test_reconstruction_by_hand():
    ceiling = np.array([[0, 3, 5, 1, 4, 4, 0]], np.float32)
    marker = np.array([[0, 3, 0, 0, 2, 0, 0]], np.float32)
    np.testing.assert_array_equal(reconstruct(marker, ceiling), [[0, 3, 3, 1, 2, 2, 0]])


def test_reconstruction_is_exact():
    generator = np.random.default_rng(2)
    ceiling = generator.integers(0, 9, (13, 17)).astype(np.float32)
    marker = np.where(generator.uniform(size=ceiling.shape) < 0.05, ceiling, 0).astype(np.float32)
    found = reconstruct(marker, ceiling)
    np.testing.assert_array_equal(found, exact_reconstruction(marker, ceiling))
    morphology = pytest.importorskip("skimage.morphology")
    np.testing.assert_array_equal(found, morphology.reconstruction(marker, ceiling, footprint=np.ones((3, 3))))


def test_smoothing_removes_what_is_narrow_and_keeps_outlines():
    wide = np.zeros((30, 40), np.float32)
    wide[8:22, 10:30] = 1
    wide[8:12, 14] = 0.25  # a notch: narrow, but open to the outside, so part of the outline
    spotted = wide.copy()
    spotted[3, 3:5] = 0.8
    spotted[15, 20] = 0.1
    np.testing.assert_array_equal(smooth_by_reconstruction(spotted, 5), wide)


def test_centredness_by_hand():
    np.testing.assert_allclose(centredness(2, 2), np.full((2, 2), 0.5))
    expected = [1 - 2 / np.sqrt(2.5**2 + 0.5**2), 1 - 1 / np.sqrt(6.5), 1, 1 - 1 / np.sqrt(6.5)]
    np.testing.assert_allclose(centredness(5, 1)[:4, 0], expected, rtol=1e-6)


def test_post_processing_by_hand():
    middle = 1 / (1 + np.exp(-5))
    np.testing.assert_allclose(post_process(np.ones((2, 2), np.float32)), np.full((2, 2), middle), rtol=1e-6)
    np.testing.assert_allclose(post_process(np.zeros((3, 4), np.float32)), np.full((3, 4), 1 - middle), rtol=1e-5)


def test_the_window_follows_the_mean(monkeypatch):
    windows = []
    monkeypatch.setattr(module, "smooth_by_reconstruction", lambda v, window_px: windows.append(window_px) or v)
    for share in (0, 0.1, 0.65):  # of 300 pixels: 50 * sqrt(mean) is 0, 15.8 and 40.3
        saliency = np.zeros((100, 300), np.float32)
        saliency.ravel()[: round(share * saliency.size)] = 1
        post_process(saliency)
    assert windows == [3, 15, 41]


def test_rounding_noise_is_not_scaled_up():
    np.testing.assert_array_equal(scale_to_one(np.full((2, 3), 1e-4, np.float32)), 0)
    np.testing.assert_array_equal(scale_to_one(np.array([[1, 4]], np.float32)), [[0.25, 1]])


@pytest.mark.parametrize("shape", [(90, 120), (300, 200), (450, 600)])
def test_a_textured_shape_is_found(shape):
    height, width = shape
    mask = np.zeros(shape, bool)
    mask[height // 4 : 3 * height // 4, width // 3 : 3 * width // 4] = True
    noise = np.random.default_rng(4).normal(0, 6, (*shape, 1))
    image = np.clip(np.where(mask[..., None], (170, 110, 60), (90, 140, 90)) + noise, 0, 255).astype(np.uint8)
    assert mb_plus(image).shape == (round(height / max(1, max(shape) / 300)), round(width / max(1, max(shape) / 300)))
    found = find_estimator("mb_plus", SaliencySettings().features)(image) > 0.5
    assert (found & mask).sum() / (found | mask).sum() > 0.9
