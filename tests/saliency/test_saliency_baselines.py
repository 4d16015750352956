"""Single published ideas: frequency tuned and spectral residual by their equations, and every size for the new ones."""

import cv2
import numpy as np
import pytest

from densessl.saliency import baselines
from densessl.saliency.colour import balance, to_lab
from densessl.saliency.estimators import find_estimator
from densessl.saliency.proposals import SaliencySettings, estimate

FEATURES = SaliencySettings().features


def test_frequency_tuned_equals_the_loop():
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    lab = to_lab(image).astype(float)
    padded = np.pad(lab, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    weights = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    mean = lab.reshape(-1, 3).mean(axis=0)
    expected = [
        [np.linalg.norm(mean - np.einsum("ij,ijc->c", weights, padded[y : y + 5, x : x + 5])) for x in range(12)]
        for y in range(9)
    ]
    np.testing.assert_allclose(baselines.frequency_tuned(image), balance(np.array(expected, np.float32)), atol=1e-5)


def test_frequency_tuned_by_hand():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 30:] = 255  # L is 0 on three quarters and 100 on the rest; the mean is 25
    soft = baselines.frequency_tuned(image)
    bright = soft[:, 32:]  # 75 from the mean, and the blur does not reach it
    dark = soft[:, :28]  # 25 from it
    np.testing.assert_allclose(bright, 1, atol=1e-4)
    # The smallest distance lies in the blurred step, where L is 1/16 * 100 at columns 28 and 5/16 * 100 at 29.
    distances = np.array([25, 25 - 6.25, 31.25 - 25, 68.75 - 25, 93.75 - 25, 75])
    assert soft[0, 29] == 0
    order = np.argsort([dark[0, 0], soft[0, 28], soft[0, 29], soft[0, 30], soft[0, 31], bright[0, 0]])
    np.testing.assert_array_equal(order, np.argsort(distances))


def test_frequency_tuned_shrinks_to_the_published_size():
    image = np.zeros((600, 800, 3), np.uint8)
    image[200:400, 300:500] = (200, 40, 40)
    small = cv2.resize(image, (400, 300), interpolation=cv2.INTER_AREA)
    large = baselines.frequency_tuned(image)
    expected = cv2.resize(baselines.frequency_tuned(small), (800, 600), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(large, expected)


def test_spectral_residual_equals_its_equation():
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    spectrum = np.fft.fft2(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float))
    logarithm, phase = np.log(np.abs(spectrum)), np.angle(spectrum)
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    residual = logarithm - sum(np.roll(logarithm, shift, axis=(0, 1)) for shift in shifts) / 9
    energy = np.abs(np.fft.ifft2(np.exp(residual + 1j * phase))) ** 2
    expected = balance(64**2 * cv2.GaussianBlur(energy, (0, 0), 2.5).astype(np.float32))
    np.testing.assert_allclose(baselines.spectral_residual(image), expected, atol=2e-3)


def test_spectral_residual_sees_structure_in_an_evenly_textured_image():
    """Its energy, spread over all pixels, is small everywhere: no ground to call the image plain."""
    image = np.random.default_rng(3).normal(120, 60, (64, 64, 1)).clip(0, 255).astype(np.uint8).repeat(3, axis=2)
    assert baselines.spectral_residual(image).max() > 0.9


def test_spectral_residual_finds_the_odd_one_out():
    noise = np.random.default_rng(0).normal(100, 15, (64, 64, 1))
    noise[24:30, 40:46] += 100
    soft = baselines.spectral_residual(np.clip(noise, 0, 255).astype(np.uint8).repeat(3, axis=2))
    y, x = np.unravel_index(soft.argmax(), soft.shape)
    assert 24 <= y < 30
    assert 40 <= x < 46


@pytest.mark.parametrize("method", ["mb_plus", "frequency_tuned", "spectral_residual"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (7, 5), (4, 900), (33, 47)])
def test_every_size_gives_a_finite_map(method, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for image in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        soft = find_estimator(method, FEATURES)(image)
        assert (soft.shape, soft.dtype) == (shape, np.float32)
        assert np.isfinite(soft).all()
        assert 0 <= soft.min() <= soft.max() <= 1


@pytest.mark.parametrize("method", ["mb_plus", "frequency_tuned"])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_plain_image_has_no_foreground(method, level):
    soft = estimate(np.full((90, 120, 3), level, np.uint8), SaliencySettings(method=method))
    np.testing.assert_array_equal(soft, 0)
