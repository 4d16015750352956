"""Tests of the outlines and textures of the synthetic object classes."""

import cv2
import numpy as np
import pytest

from densessl.data.synthetic_placement import OBJECT_CLASSES
from densessl.data.synthetic_shapes import polygon_area, random_outline
from densessl.data.synthetic_textures import class_pattern, random_background, smooth_noise
from densessl.errors import InputError


@pytest.mark.parametrize("shape", [shape for shape, _ in OBJECT_CLASSES])
def test_outlines_have_unit_area_and_vary(shape: str) -> None:
    generator = np.random.default_rng(0)
    outlines = [random_outline(shape, generator) for _ in range(20)]
    for outline in outlines:
        assert polygon_area(outline) == pytest.approx(1)
        assert np.abs(outline).max() < 2.5
        rasterised = np.zeros((600, 600), np.uint8)
        cv2.fillPoly(rasterised, [np.round(outline * 100 + 300).astype(np.int32)], 1)
        assert rasterised.sum() == pytest.approx(1e4, rel=0.08)  # the outline does not cross itself
    assert np.std([np.abs(outline).max() for outline in outlines]) > 0.01


def test_polygon_area_by_hand() -> None:
    assert polygon_area(np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]])) == 6


@pytest.mark.parametrize("pattern", [pattern for _, pattern in OBJECT_CLASSES])
def test_patterns_use_their_range_on_non_square_fields(pattern: str) -> None:
    v, u = np.mgrid[:60, :90].astype(np.float32) / 15
    values = class_pattern(pattern, u, v, np.random.default_rng(0))
    assert values.shape == (60, 90)
    assert values.dtype == np.float32
    assert values.min() == pytest.approx(0, abs=0.05)
    assert values.max() == pytest.approx(1, abs=0.05)
    assert 0.2 < values.mean() < 0.8


def test_checks_by_hand() -> None:
    u, v = np.meshgrid(np.array([0.5, 1.5], np.float32), np.array([0.5, 1.5, 2.5], np.float32))
    np.testing.assert_allclose(class_pattern("checks", u, v, np.random.default_rng(0)), [[1, 0], [0, 1], [1, 0]])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape is 'cube', .* choose one of them"):
        random_outline("cube", np.random.default_rng(0))
    field = np.zeros((2, 2), np.float32)
    with pytest.raises(InputError, match=r"pattern is 'plaid', .* choose one of them"):
        class_pattern("plaid", field, field, np.random.default_rng(0))


def test_smooth_noise_is_centred_and_smooth() -> None:
    noise = smooth_noise((90, 200), 20, np.random.default_rng(0))
    assert noise.shape == (90, 200)
    assert abs(noise.mean()) < 0.15
    assert 0.5 < noise.std() < 1.2
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.2


def test_backgrounds_are_cluttered_and_in_range() -> None:
    generator = np.random.default_rng(0)
    canvases = [random_background((48, 64), generator) for _ in range(20)]
    assert all(canvas.shape == (48, 64, 3) and np.isfinite(canvas).all() for canvas in canvases)
    assert min(canvas.std(axis=(0, 1)).mean() for canvas in canvases) > 0.02
    assert np.mean([np.mean((canvas < 0) | (canvas > 1)) for canvas in canvases]) < 0.05
