"""The guided filter against a loop of its equations."""

import numpy as np
import pytest

from densessl.saliency.guided_filter import fit_colours, guided_filter, refine_by_guided_filter


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
    slope, offset = fit_colours(guide, values, 2, 0.01)
    applied = (slope * (guide / 255)).sum(axis=2) + offset
    np.testing.assert_allclose(np.clip(applied, 0, 1), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 2)])
def test_guided_filter_keeps_a_constant_map(shape):
    guide = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    values = np.full(shape, 0.3, np.float32)
    np.testing.assert_allclose(refine_by_guided_filter(guide, values), 0.3, atol=1e-4)
