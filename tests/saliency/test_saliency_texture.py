"""Texture cues: orientation, contrast to the border against a loop, coarse against fine."""

import numpy as np
import pytest

from densessl.saliency.superpixels import segment
from densessl.saliency.texture import coarseness, oriented_energy, texture_contrast, texture_features, variation


def noise(height, width, seed=0):
    return np.random.default_rng(seed).uniform(0, 100, (height, width)).astype(np.float32)


@pytest.fixture
def regions():
    return segment(np.full((40, 60, 3), 50, np.float32), num_regions=24)


def test_stripes_excite_the_filter_across_them(regions):
    columns = np.tile(50 + 40 * np.sin(2 * np.pi * np.arange(60) / 4), (40, 1)).astype(np.float32)
    features = texture_features(oriented_energy(columns), regions)
    assert features.shape == (len(regions), 4)
    assert (features.argmax(axis=1) == 0).all()


def test_plain_lightness_has_no_texture(regions):
    np.testing.assert_allclose(
        texture_features(oriented_energy(np.full((40, 60), 50, np.float32)), regions), 0, atol=1e-3
    )


def test_contrast_equals_the_loop(regions):
    texture = np.random.default_rng(1).normal(size=(len(regions), 4))
    border = [i for i in range(len(regions)) if regions.border[i] > 0]
    raw = []
    for own in texture:
        distances = sorted(np.linalg.norm(own - texture[i]) for i in border)
        raw.append(np.mean(distances[: max(1, len(border) // 4)]))
    expected = (np.array(raw) - min(raw)) / (max(raw) - min(raw))
    np.testing.assert_allclose(texture_contrast(texture, regions), expected)


def test_fine_noise_is_less_coarse_than_blobs(regions):
    lightness, fine = np.full((40, 60), 50, np.float32), np.full((80, 120), 50, np.float32)
    fine[:, :60] += noise(80, 60) - 50
    lightness[:, 30:] += 40 * np.sin(np.arange(30) / 2).astype(np.float32)
    values = coarseness(*variation(fine, lightness), regions)
    left = regions.position[:, 1] < 0.3
    assert values[left].max() < values[regions.position[:, 1] > 0.7].min()


def test_coarseness_is_the_log_ratio_of_the_means(regions):
    generator = np.random.default_rng(2)
    coarse, fine = generator.uniform(0, 20, (2, 40, 60)).astype(np.float32)
    expected = [
        np.log((1 + coarse[regions.labels == i].mean()) / (1 + fine[regions.labels == i].mean()))
        for i in range(len(regions))
    ]
    np.testing.assert_allclose(coarseness(coarse, fine, regions), expected, rtol=1e-5, atol=1e-6)


def test_plain_image_has_no_coarseness(regions):
    np.testing.assert_allclose(
        coarseness(*variation(np.full((80, 120), 9, np.float32), np.full((40, 60), 9, np.float32)), regions), 0
    )
