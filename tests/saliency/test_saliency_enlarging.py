"""Enlarging: bands change nothing, edges follow the photograph."""

import numpy as np
import pytest

from densessl.saliency import enlarging
from densessl.saliency.colour import resize_map
from densessl.saliency.enlarging import enlarge_along_edges
from densessl.saliency.refinement import guided_filter


@pytest.mark.parametrize("band_px", [1, 400, 1_000_000])
def test_bands_equal_the_whole(monkeypatch, band_px):
    monkeypatch.setattr(enlarging, "BAND_PX", band_px)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (61, 45, 3), dtype=np.uint8)
    small = generator.uniform(size=(20, 15)).astype(np.float32)
    expected = guided_filter(image, resize_map(small, 61, 45), 6, 1e-3)
    np.testing.assert_allclose(enlarge_along_edges(image, small), expected, atol=2e-5)


def test_a_map_of_the_right_size_is_returned():
    small = np.random.default_rng(1).uniform(size=(9, 8)).astype(np.float32)
    assert enlarge_along_edges(np.zeros((9, 8, 3), np.uint8), small) is small


def test_edges_follow_the_photograph():
    image = np.zeros((80, 120, 3), np.uint8)
    image[:, 67:] = 200
    small = np.zeros((20, 30), np.float32)
    small[:, 17:] = 1  # its edge lies at column 68
    large = enlarge_along_edges(image, small)
    assert large[:, 66].max() < 0.35
    assert large[:, 67].min() > 0.65
    assert np.abs(resize_map(small, 80, 120)[0, [66, 67]] - 0.5).max() < 0.4


@pytest.mark.parametrize("shape", [(1, 900), (900, 1), (3, 700)])
def test_thin_images(shape):
    large = enlarge_along_edges(np.full((*shape, 3), 7, np.uint8), np.full((1, 1), 0.4, np.float32))
    np.testing.assert_allclose(large, 0.4, atol=1e-5)
