"""Deep spectral methods: colour affinities as a loop, the Fiedler cut, segments of a known scene."""

import cv2
import numpy as np
import pytest
from saliency_patch_scenes import HEIGHT, WIDTH, random_features, rectangle, two_clusters
from scipy.linalg import eigh

from densessl.errors import InputError
from densessl.models.patch_features import PatchFeatures
from densessl.saliency.spectral_segments import (
    colour_affinity,
    combined_affinity,
    deep_spectral,
    eigensegments,
)


def noise_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def slow_colour_affinity(image):
    """Return the affinities between all pixels of a small image, one pair after the other."""
    height, width, _ = image.shape
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV).astype(float)
    points = []
    for row in range(height):
        for column in range(width):
            hue, saturation, value = hsv[row, column]
            place = (column + 0.5) / width, (row + 0.5) / height
            points.append([np.cos(np.radians(hue)), np.sin(np.radians(hue)), saturation, value, *place])
    points = np.array(points)
    distance = np.array([[np.linalg.norm(one - other) for other in points] for one in points])
    affinity = np.zeros_like(distance)
    for cell in range(len(points)):
        for other in [near for near in np.argsort(distance[cell]) if near != cell][:20]:
            affinity[cell, other] = affinity[other, cell] = max(0, 1 - distance[cell, other])
    return affinity


@pytest.mark.parametrize(("height", "width"), [(5, 8), (2, 3)])
def test_colour_affinity_matches_its_equation(height, width):
    image = noise_image(height, width)
    found = colour_affinity(image, height, width).toarray()
    np.testing.assert_allclose(found, slow_colour_affinity(image), atol=1e-6)
    assert not found.diagonal().any()


def test_colour_affinity_sees_the_mean_colour_of_each_cell():
    large = np.kron(noise_image(4, 6), np.ones((5, 7, 1))).astype(np.uint8)
    found = colour_affinity(large, 4, 6).toarray()
    np.testing.assert_allclose(found, colour_affinity(noise_image(4, 6), 4, 6).toarray(), atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_deep_spectral_matches_a_dense_decomposition(seed):
    features, image = random_features(4, 7, seed=seed), noise_image(40, 70, seed)
    affinity = np.empty((28, 28))
    for one in range(28):
        for other in range(28):
            first, second = features.values[one], features.values[other]
            affinity[one, other] = max(0, first @ second / np.linalg.norm(first) / np.linalg.norm(second))
    affinity += 10 * slow_colour_affinity(cv2.resize(image, (7, 4), interpolation=cv2.INTER_AREA))
    degree = np.diag(affinity.sum(axis=1))
    _, vectors = eigh(degree - affinity, degree)
    mask = vectors[:, 1] > 0
    mask = ~mask if mask.mean() > 0.5 else mask
    found = deep_spectral(features, image) > 0.5
    if mask.mean() == 0.5:  # neither side is the smaller one
        found = found if found.flat[0] == mask[0] else ~found
    np.testing.assert_array_equal(found, mask.reshape(4, 7))


def test_deep_spectral_finds_the_object_of_a_non_square_scene():
    image = np.full((HEIGHT * 10, WIDTH * 10, 3), (40, 120, 60), np.uint8)
    image[20:50, 60:100] = (200, 60, 30)
    soft = deep_spectral(two_clusters(rectangle()), image)
    assert (soft.shape, soft.dtype) == ((HEIGHT, WIDTH), np.float32)
    np.testing.assert_array_equal(soft > 0.5, rectangle())


def three_parts():
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    labels[1:5, 2:7] = 1
    labels[3:6, 8:11] = 2
    generator = np.random.default_rng(0)
    values = np.eye(5)[labels.ravel()] + 0.03 * generator.standard_normal((labels.size, 5))
    colours = np.array([(40, 120, 60), (200, 60, 30), (30, 40, 220)], dtype=np.uint8)
    image = np.kron(colours[labels], np.ones((8, 8, 1), dtype=np.uint8))
    return labels, PatchFeatures(values, np.ones((1, labels.size)), HEIGHT, WIDTH), image


@pytest.mark.parametrize("num_segments", [3, None])
def test_segments_of_a_known_scene(num_segments):
    """Background, which fills the border, is 0, and the larger of the others is 1; the eigengap says 3 as well."""
    labels, features, image = three_parts()
    found = eigensegments(features, image, num_segments, num_eigenvectors=2 if num_segments else 3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, labels)


def test_segments_are_the_same_each_time():
    features, image = random_features(6, 9), noise_image(60, 90)
    np.testing.assert_array_equal(eigensegments(features, image, 4), eigensegments(features, image, 4))


def test_segment_numbers_out_of_range_are_refused():
    features, image = random_features(3, 4), noise_image(30, 40)
    with pytest.raises(InputError, match=r"num_segments 1 is not between 2 and the 12 patches"):
        eigensegments(features, image, 1)
    with pytest.raises(InputError, match=r"num_eigenvectors 1 is below 2; 19 is usual"):
        eigensegments(features, image, 3, num_eigenvectors=1)
    with pytest.raises(InputError, match=r"19 eigenvectors are asked of a graph of 12 patches; ask for 1 to 10"):
        eigensegments(features, image, 3)


def test_affinity_is_symmetric_and_not_negative():
    affinity = combined_affinity(random_features(4, 6), noise_image(40, 60))
    assert affinity.min() >= 0
    np.testing.assert_allclose(affinity, affinity.T, atol=1e-12)
