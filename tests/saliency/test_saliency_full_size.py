"""Large photographs: the rule, the fast guided filter against the plain one, bands, and thin structures."""

import cv2
import numpy as np
import pytest

from densessl.saliency import full_size
from densessl.saliency.colour import resize_map
from densessl.saliency.estimators import find_estimator, find_refiner
from densessl.saliency.full_size import enlarge_from_copy, reduced_copy
from densessl.saliency.guided_filter import fit_colours
from densessl.saliency.proposals import SaliencySettings, estimate


def spider(height, width):
    """Return a round body with eight thin legs on a noisy ground, and its mask."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    down, right = rows - height / 2, columns - width / 2
    radius, angle = np.hypot(down, right), np.arctan2(down, right)
    distance_to_leg = radius * np.abs(np.sin(4 * angle)) / 4
    mask = (radius < 0.14 * width) | ((distance_to_leg < 0.003 * width) & (radius < 0.33 * width))
    shade = (20 * np.sin(columns / width * 3))[..., None] + np.random.default_rng(0).normal(0, 8, (height, width, 1))
    image = np.where(mask[..., None], (190, 110, 60), (70, 120, 100)) + shade
    return np.clip(image, 0, 255).astype(np.uint8), mask


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize(("shape", "is_large"), [((320, 240), False), ((960, 500), False), ((500, 961), True)])
def test_only_large_images_are_reduced(shape, is_large):
    image = np.zeros((*shape, 3), np.uint8)
    copy = reduced_copy(image)
    assert (copy is image) != is_large
    if is_large:
        assert copy.shape == (260, 500, 3)
        assert reduced_copy(image, 800).shape == (416, 800, 3)
        assert reduced_copy(image, 1280) is image


@pytest.mark.parametrize("method", ["fused", "mb_plus"])
def test_usual_photographs_are_worked_on_as_they_are(method):
    image, _ = spider(240, 320)
    settings = SaliencySettings(method=method)
    plain = find_refiner("colour_models")(image, find_estimator(method, settings.features)(image))
    np.testing.assert_array_equal(estimate(image, settings), plain)


@pytest.mark.parametrize("band_px", [1, 500, 10**9])
def test_bands_equal_the_whole(monkeypatch, band_px):
    monkeypatch.setattr(full_size, "BAND_PX", band_px)
    generator = np.random.default_rng(2)
    image = generator.integers(0, 256, (67, 90, 3), dtype=np.uint8)
    copy = cv2.resize(image, (30, 22), interpolation=cv2.INTER_AREA)
    soft = generator.uniform(size=(22, 30)).astype(np.float32)
    slope, offset = (cv2.resize(part, (90, 67)) for part in fit_colours(copy, soft, full_size.RADIUS_PX, 1e-3))
    expected = np.clip((slope * (image.astype(np.float32) / 255)).sum(axis=2) + offset, 0, 1)
    found = enlarge_from_copy(image, copy, soft)
    assert (found.shape, found.dtype) == ((67, 90), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_map_of_the_right_size_is_returned():
    image = np.zeros((9, 8, 3), np.uint8)
    soft = np.zeros((9, 8), np.float32)
    assert enlarge_from_copy(image, image, soft) is soft


@pytest.mark.parametrize("shape", [(1, 1500), (1500, 1), (3, 2000)])
def test_thin_images(shape):
    image = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    copy = reduced_copy(image)
    soft = enlarge_from_copy(image, copy, np.full(copy.shape[:2], 0.4, np.float32))
    np.testing.assert_allclose(soft, np.full(shape, 0.4), atol=1e-3)


def test_thin_structures_are_better_than_bilinear():
    image, mask = spider(1500, 2000)
    copy = reduced_copy(image)
    coarse = cv2.resize(mask.astype(np.float32), (160, 120), interpolation=cv2.INTER_AREA)
    bilinear = resize_map(coarse, 1500, 2000) > 0.5
    followed = enlarge_from_copy(image, copy, resize_map(coarse, *copy.shape[:2])) > 0.5
    assert overlap(followed, mask) > overlap(bilinear, mask) + 0.02
    legs = np.hypot(*(np.mgrid[:1500, :2000] - np.array([750, 1000])[:, None, None])) > 320
    assert overlap(followed & legs, mask & legs) > overlap(bilinear & legs, mask & legs) + 0.15


def test_a_large_photograph_is_estimated_along_its_edges():
    image, mask = spider(1500, 2000)
    settings = SaliencySettings(method="frequency_tuned", refine="none")
    found = estimate(image, settings)
    assert (found.shape, found.dtype) == ((1500, 2000), np.float32)
    plain = find_estimator("frequency_tuned", settings.features)(image)
    assert overlap(found > 0.5, mask) > overlap(plain > 0.5, mask) + 0.02
