"""Dense CRF: marginals against a direct evaluation of the mean-field equation, hand values, degenerate input."""

import cv2
import numpy as np
import pytest

from densessl.data.images import read_image
from densessl.data.synthetic import render_synthetic_image
from densessl.errors import InputError
from densessl.saliency.dense_crf import DenseCrfSettings, dense_crf, refine_by_dense_crf
from densessl.saliency.fused import fused


def direct_dense_crf(image, soft, settings):
    """The update of every pixel and label from all pairs of pixels, with the kernels as dense matrices."""
    height, width = soft.shape
    places = np.indices((height, width)).reshape(2, -1).T.astype(float)
    colours = image.reshape(-1, 3).astype(float)
    place_distance = sum((column[:, None] - column) ** 2 for column in places.T)
    colour_distance = sum((column[:, None] - column) ** 2 for column in colours.T)
    appearance = np.exp(
        -place_distance / (2 * settings.appearance_px**2) - colour_distance / (2 * settings.appearance_colour**2)
    )
    smoothness = np.exp(-place_distance / (2 * settings.smoothness_px**2))
    kernel = np.zeros_like(appearance)
    for weight, part in ((settings.appearance_weight, appearance), (settings.smoothness_weight, smoothness)):
        degree = part.sum(axis=1)
        kernel += weight * part / np.sqrt(degree[:, None] * degree)
    clipped = np.clip(soft.astype(float).ravel(), 1e-5, 1 - 1e-5)
    unary = -np.log(np.stack([1 - clipped, clipped]))  # (2, num_pixels)
    marginals = np.exp(-unary)
    for _ in range(settings.num_rounds):
        penalty = (kernel @ marginals.T).T[::-1]  # Potts: each label pays for the other
        energy = unary + penalty
        marginals = np.exp(-(energy - energy.min(axis=0)))
        marginals /= marginals.sum(axis=0)
    return marginals[1].reshape(height, width)


def small_scene(seed, shape=(24, 32)):
    image = cv2.resize(render_synthetic_image(seed, 160, 3).image, shape[::-1], interpolation=cv2.INTER_AREA)
    generator = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(generator.normal(0.5, 2, shape).astype(np.float32), (0, 0), 4)
    return image, np.clip(rough, 0, 1).astype(np.float32)


SHORT_RANGE = DenseCrfSettings(appearance_px=8, num_rounds=8)
WEAK = DenseCrfSettings(appearance_weight=3, appearance_px=10, appearance_colour=30, smoothness_px=1.5, num_rounds=3)


@pytest.mark.parametrize(
    ("settings", "mean", "percentile_99", "flipped"),  # twice what the worse of the two scenes has
    [
        pytest.param(DenseCrfSettings(), 0.0112, 0.27, 0.0105, id="published"),
        pytest.param(SHORT_RANGE, 0.0058, 0.125, 0.008, id="short"),
        pytest.param(WEAK, 0.006, 0.043, 0.0027, id="weak"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_marginals_equal_the_direct_evaluation(settings, mean, percentile_99, flipped, seed):
    image, soft = small_scene(seed)
    found, expected = dense_crf(image, soft, settings), direct_dense_crf(image, soft, settings)
    difference = np.abs(found - expected)
    assert difference.mean() < mean
    assert np.percentile(difference, 99) < percentile_99
    assert ((found > 0.5) != (expected > 0.5)).mean() < flipped
    assert np.abs(soft - expected).mean() > 0.05  # and there was something to do


@pytest.mark.real_data
def test_marginals_of_photographs(real_data):
    """About twice what is measured, which the docstring of `dense_crf` states."""
    paths = sorted((real_data / "voc_animals" / "JPEGImages").glob("*.jpg"))[:12]
    differences, flips = [], []
    for path in paths:
        image = read_image(path)
        soft = cv2.resize(fused(image), (64, 48), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA)
        found, expected = dense_crf(image, soft), direct_dense_crf(image, soft, DenseCrfSettings())
        differences.append(np.abs(found - expected))
        flips.append(((found > 0.5) != (expected > 0.5)).mean())
    assert np.mean(differences) < 0.0026
    assert max(difference.mean() for difference in differences) < 0.0078
    assert np.percentile(differences, 99) < 0.086
    assert np.mean(flips) < 0.0025
    assert max(flips) < 0.0059


def test_smoothness_alone_is_exact():
    image, soft = small_scene(2, (11, 17))
    settings = DenseCrfSettings(appearance_weight=0)
    np.testing.assert_allclose(dense_crf(image, soft, settings), direct_dense_crf(image, soft, settings), atol=2e-3)


def test_no_pairs_leave_the_map():
    image, soft = small_scene(3, (7, 9))
    soft = np.clip(soft, 1e-3, 1 - 1e-3)
    settings = DenseCrfSettings(appearance_weight=0, smoothness_weight=0)
    np.testing.assert_allclose(dense_crf(image, soft, settings), soft, atol=1e-5)
    np.testing.assert_allclose(dense_crf(image, soft, DenseCrfSettings(num_rounds=0)), soft, atol=1e-5)


def test_one_pixel_by_hand():
    image, soft = np.zeros((1, 1, 3), np.uint8), np.full((1, 1), 0.6, np.float32)
    settings = DenseCrfSettings(num_rounds=1)  # both kernels are 1, so the log odds gain (10 + 3) (2 * 0.6 - 1)
    expected = 1 / (1 + np.exp(-(np.log(0.6 / 0.4) + 13 * 0.2)))
    np.testing.assert_allclose(dense_crf(image, soft, settings), expected, rtol=1e-5)


def disc():
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:90, :120]
    mask = (rows - 45) ** 2 + (columns - 60) ** 2 < 28**2
    image = np.where(mask[..., None], (190, 120, 60), (60, 110, 90)) + generator.normal(0, 6, (90, 120, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def test_recovers_the_shape():
    image, mask = disc()
    rough = cv2.GaussianBlur(np.roll(mask, 6, axis=1).astype(np.float32), (0, 0), 8)
    refined = refine_by_dense_crf(image, rough)
    assert refined.dtype == np.float32
    assert (((refined > 0.5) & mask).sum() / ((refined > 0.5) | mask).sum()) > 0.98
    np.testing.assert_array_equal(refine_by_dense_crf(image, rough), refined)


def test_large_images_keep_their_size_and_edges():
    image, mask = disc()
    image, mask = (np.kron(part, np.ones((7, 7) + (1,) * (part.ndim - 2), part.dtype)) for part in (image, mask))
    rough = cv2.GaussianBlur(np.roll(mask, 42, axis=1).astype(np.float32), (0, 0), 56)
    refined = refine_by_dense_crf(image, rough) > 0.5
    assert refined.shape == (630, 840)
    assert (refined & mask).sum() / (refined | mask).sum() > 0.97


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (1, 1200), (2, 3)])
def test_thin_images(shape):
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
    refined = refine_by_dense_crf(image, generator.uniform(size=shape).astype(np.float32))
    assert refined.shape == shape
    assert refined.dtype == np.float32
    assert ((refined >= 0) & (refined <= 1)).all()


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize(("level", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_constant_maps(is_plain, level, expected):
    image = np.full((20, 30, 3), 90, np.uint8) if is_plain else small_scene(4, (20, 30))[0]
    refined = refine_by_dense_crf(image, np.full((20, 30), level, np.float32))
    np.testing.assert_allclose(refined, expected, atol=1e-4)


def test_sizes_that_differ():
    with pytest.raises(InputError, match=r"soft map has shape \(4, 5\), but its image \(5, 4\); resize one"):
        dense_crf(np.zeros((5, 4, 3), np.uint8), np.zeros((4, 5), np.float32))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("appearance_px", 0.0, r"appearance_px is 0.0, but it must be above 0; 80.0 is usual"),
        ("appearance_colour", -1.0, r"appearance_colour is -1.0, but it must be above 0; 13.0 is usual"),
        ("smoothness_weight", float("nan"), r"smoothness_weight is nan, but it must be 0 or above; 3.0 is usual"),
        ("num_rounds", -2, r"num_rounds is -2, but it must be 0 or above; 5 is usual"),
    ],
)
def test_settings_out_of_range(name, value, message):
    with pytest.raises(InputError, match=message):
        DenseCrfSettings(**{name: value})
