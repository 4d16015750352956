"""Similarity, energy and half distance of features, against loops."""

import numpy as np
import pytest

from densessl.attention.similarity import cell_at, feature_energy, half_distance, most_similar, similarity_to
from densessl.errors import InputError


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_similarity_and_energy_are_those_of_a_loop(features: np.ndarray) -> None:
    similarity, energy = similarity_to(features, features[1, 2]), feature_energy(features)
    for row in range(4):
        for column in range(6):
            assert similarity[row, column] == pytest.approx(cosine(features[row, column], features[1, 2]), abs=1e-6)
            assert energy[row, column] == pytest.approx(np.linalg.norm(features[row, column]), rel=1e-6)
    assert most_similar(similarity) == (1, 2)
    features[0, 0] = 0
    assert similarity_to(features, features[1, 2])[0, 0] == 0


def test_a_patch_is_found_in_another_image(features: np.ndarray) -> None:
    other = np.random.default_rng(1).normal(size=(3, 8, 5)).astype(np.float32)
    other[2, 7] = 3 * features[0, 5]
    assert most_similar(similarity_to(other, features[0, 5])) == (2, 7)


def test_points_fall_into_cells() -> None:
    """A grid of 3x5 cells of 16 pixels sticks out over an image 40 pixels high and 70 wide."""
    for point, cell in (((0, 0), (0, 0)), ((15.9, 16), (1, 0)), ((69.5, 39.5), (2, 4)), ((64, 31), (1, 4))):
        assert cell_at(point, (40, 70), (48, 80), (3, 5)) == cell
    for outside in ((70, 0), (0, 40), (-1, 3)):
        with pytest.raises(InputError, match="outside of the image, which is 70 pixels wide and 40 high"):
            cell_at(outside, (40, 70), (48, 80), (3, 5))


def test_half_distance_is_that_of_a_loop(features: np.ndarray) -> None:
    smooth = np.cumsum(np.cumsum(features, axis=0), axis=1) + 3
    cells = [(row, column) for row in range(4) for column in range(6)]
    total = np.mean([1 - cosine(smooth[a], smooth[b]) for a in cells for b in cells])
    previous, expected = 0.0, None
    for apart in range(1, 6):
        pairs = [(a, (a[0] + apart, a[1])) for a in cells if a[0] + apart < 4]
        pairs += [(a, (a[0], a[1] + apart)) for a in cells if a[1] + apart < 6]
        mean = np.mean([1 - cosine(smooth[a], smooth[b]) for a, b in pairs])
        if mean >= total / 2:
            expected = 8 * (apart - 1 + (total / 2 - previous) / (mean - previous))
            break
        previous = mean
    assert half_distance(smooth, 8) == pytest.approx(expected, rel=1e-5)


def test_finer_structure_has_a_smaller_half_distance() -> None:
    columns = np.arange(32)
    distances = []
    for period in (32, 16, 8):
        wave = np.stack([np.sin(2 * np.pi * columns / period), np.cos(2 * np.pi * columns / period)], axis=1)
        distances.append(half_distance(np.tile(wave[None], (32, 1, 1)).astype(np.float32), 1))
    assert distances[0] > distances[1] > distances[2]
    assert np.isnan(half_distance(np.ones((4, 4, 3), np.float32), 1))
