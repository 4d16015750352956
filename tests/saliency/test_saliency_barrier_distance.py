"""The barrier distance: against a pixel loop of the same sweeps, and against the exact distance."""

import numpy as np
import pytest
from scipy.ndimage import label

from densessl.saliency.barrier_distance import barrier_distance


def slow_sweeps(image, num_passes):
    height, width = image.shape
    edge = {(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)}
    distance = {(y, x): 0.0 if (y, x) in edge else np.inf for y in range(height) for x in range(width)}
    high = {pixel: image[pixel] for pixel in distance}
    low = dict(high)
    orders = [
        [((y, x), (y - 1, x)) for y in range(1, height) for x in range(width)],
        [((y, x), (y + 1, x)) for y in reversed(range(height - 1)) for x in range(width)],
        [((y, x), (y, x - 1)) for x in range(1, width) for y in range(height)],
        [((y, x), (y, x + 1)) for x in reversed(range(width - 1)) for y in range(height)],
    ]
    for _ in range(num_passes):
        for order in orders:
            for pixel, before in order:
                top, bottom = max(high[before], image[pixel]), min(low[before], image[pixel])
                if top - bottom < distance[pixel]:
                    distance[pixel], high[pixel], low[pixel] = top - bottom, top, bottom
    return np.array([[distance[y, x] for x in range(width)] for y in range(height)])


def exact(image):
    """Try every band of values: a path within the band exists where its component touches the edge."""
    values = np.unique(image)
    result = np.full(image.shape, np.inf)
    for bottom in values:
        for top in values[values >= bottom]:
            parts, _ = label((image >= bottom) & (image <= top))
            at_edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
            reached = np.isin(parts, at_edge[at_edge > 0])
            result[reached] = np.minimum(result[reached], top - bottom)
    return result


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 12, (8, 9)).astype(np.float32)


@pytest.mark.parametrize("num_passes", [1, 2, 3])
def test_equals_the_pixel_loop(image, num_passes):
    np.testing.assert_array_equal(barrier_distance(image[..., None], num_passes), slow_sweeps(image, num_passes))


def test_is_never_below_the_exact_distance_and_mostly_equal(image):
    found, true = barrier_distance(image[..., None], 4), exact(image)
    assert (found >= true).all()
    assert (found == true).mean() > 0.8


def test_channels_add_up(image):
    both = np.dstack([image, 2 * image])
    np.testing.assert_allclose(barrier_distance(both), 3 * barrier_distance(image[..., None]))


def test_ring_by_hand():
    image = np.zeros((7, 7), np.float32)
    image[2:5, 2:5] = 5
    image[3, 3] = 1
    expected = np.zeros((7, 7))
    expected[2:5, 2:5] = 5
    np.testing.assert_array_equal(barrier_distance(image[..., None]), expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (2, 2, 3)])
def test_nothing_but_edge_is_zero(shape):
    np.testing.assert_array_equal(barrier_distance(np.full(shape, 7, np.float32)), np.zeros(shape[:2]))
