"""Refinement: the guided filter against a loop of its equations; colour models recover a shape from a rough seed."""

import cv2
import numpy as np
import pytest

from densessl.saliency.refinement import guided_filter, refine_by_colour_models, refine_by_guided_filter


def slow_guided_filter(guide, values, radius, smoothness):
    image = guide.astype(float) / 255
    height, width = values.shape
    padded_image = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    padded_values = np.pad(values, radius, mode="symmetric")
    slope, offset = np.zeros((height, width, 3)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            window = padded_image[y : y + 2 * radius + 1, x : x + 2 * radius + 1].reshape(-1, 3)
            target = padded_values[y : y + 2 * radius + 1, x : x + 2 * radius + 1].ravel()
            covariance = np.cov(window.T, bias=True) + smoothness * np.eye(3)
            cross = (window * target[:, None]).mean(axis=0) - window.mean(axis=0) * target.mean()
            slope[y, x] = np.linalg.solve(covariance, cross)
            offset[y, x] = target.mean() - slope[y, x] @ window.mean(axis=0)
    padded_slope = np.pad(slope, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    padded_offset = np.pad(offset, radius, mode="symmetric")
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            box = slice(y, y + 2 * radius + 1), slice(x, x + 2 * radius + 1)
            result[y, x] = padded_slope[box].mean(axis=(0, 1)) @ image[y, x] + padded_offset[box].mean()
    return np.clip(result, 0, 1)


def test_guided_filter_equals_the_loop():
    generator = np.random.default_rng(0)
    guide = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    values = generator.uniform(size=(9, 12)).astype(np.float32)
    expected = slow_guided_filter(guide, values, 2, 0.01)
    np.testing.assert_allclose(guided_filter(guide, values, 2, 0.01), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 2)])
def test_guided_filter_keeps_a_constant_map(shape):
    guide = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    values = np.full(shape, 0.3, np.float32)
    np.testing.assert_allclose(refine_by_guided_filter(guide, values), 0.3, atol=1e-4)


def disc(seed=0):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:90, :120]
    mask = (rows - 45) ** 2 + (columns - 60) ** 2 < 28**2
    image = np.where(mask[..., None], (190, 120, 60), (60, 110, 90)) + generator.normal(0, 6, (90, 120, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def test_colour_models_recover_the_shape():
    image, mask = disc()
    rough = cv2.GaussianBlur(np.roll(mask, 6, axis=1).astype(np.float32), (0, 0), 8)
    refined = refine_by_colour_models(image, rough) > 0.5
    assert (refined & mask).sum() / (refined | mask).sum() > 0.9
    assert ((rough > 0.5) & mask).sum() / ((rough > 0.5) | mask).sum() < 0.85


def test_the_surer_half_of_each_side_is_held():
    image, mask = disc()
    soft = np.where(mask, 0.9, 0.1).astype(np.float32)
    stray = np.zeros_like(mask)
    stray[4:14, 4:14] = True  # a patch of ground, surer than the disc
    soft[stray] = 1.0
    assert (refine_by_colour_models(image, soft)[stray] > 0.5).all()
    soft[stray] = 0.6  # and now less sure
    assert (refine_by_colour_models(image, soft)[stray] < 0.5).mean() > 0.9


def test_colour_models_repeat_themselves_whatever_the_seed():
    image, mask = disc()
    rough = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 8)
    cv2.setRNGSeed(1)
    first = refine_by_colour_models(image, rough)
    cv2.setRNGSeed(99)
    np.testing.assert_array_equal(refine_by_colour_models(image, rough), first)


@pytest.mark.parametrize("level", [0.0, 0.4, 0.6, 1.0])
def test_colour_models_leave_a_one_sided_map_alone(level):
    image, _ = disc()
    soft = np.full((90, 120), level, np.float32)
    np.testing.assert_array_equal(refine_by_colour_models(image, soft), soft)
