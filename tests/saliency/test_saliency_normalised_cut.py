"""Normalised cuts against a dense eigendecomposition, TokenCut against the paper's steps as slow loops."""

import numpy as np
import pytest
from saliency_patch_scenes import HEIGHT, WIDTH, random_features, rectangle, two_clusters
from scipy.linalg import cho_factor, eigh
from scipy.ndimage import label

from densessl.errors import InputError
from densessl.models.patch_features import PatchFeatures
from densessl.saliency import normalised_cut as module
from densessl.saliency.normalised_cut import cut_eigenvectors, tokencut, unit_length


def random_affinity(num_cells, seed, floor=0.0, density=1.0):
    generator = np.random.default_rng(seed)
    values = generator.random((num_cells, num_cells))
    values = np.where(values < density, values / density, floor)
    return np.maximum((values + values.T) / 2, floor)


@pytest.mark.parametrize(("num_cells", "num_vectors"), [(4, 1), (9, 7), (60, 5), (150, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_eigenvectors_match_a_dense_decomposition(num_cells, num_vectors, seed):
    affinity = random_affinity(num_cells, seed)
    degree = np.diag(affinity.sum(axis=1))
    expected_values, expected = eigh(degree - affinity, degree)
    values, vectors = cut_eigenvectors(affinity, num_vectors)
    np.testing.assert_allclose(values, expected_values[1 : num_vectors + 1], atol=1e-9)
    signs = np.sign((vectors * expected[:, 1 : num_vectors + 1]).sum(axis=0))
    np.testing.assert_allclose(vectors * signs, expected[:, 1 : num_vectors + 1], atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_eigenvectors_of_nearly_disconnected_graphs(seed):
    """Four groups of cells joined by 1e-5 alone: eigenvalues 1e-5 and less apart."""
    generator = np.random.default_rng(seed)
    group = generator.integers(0, 4, 80)
    joined = (group[:, None] == group) & (random_affinity(80, seed) > 0.2)
    affinity = np.where(joined | np.eye(80, dtype=bool), 1.0, 1e-5)
    degree = np.diag(affinity.sum(axis=1))
    expected_values, expected = eigh(degree - affinity, degree)
    values, vectors = cut_eigenvectors(affinity, 3)
    np.testing.assert_allclose(values, expected_values[1:4], rtol=1e-5)
    signs = np.sign((vectors * expected[:, 1:4]).sum(axis=0))
    np.testing.assert_allclose(vectors * signs, expected[:, 1:4], atol=1e-6)


def test_eigenvectors_of_a_long_chain(monkeypatch):
    """Its smallest eigenvalues are 1e-4 and less apart, too crowded for Lanczos without a factorisation."""
    factorised = []
    monkeypatch.setattr(module, "cho_factor", lambda *given, **more: factorised.append(1) or cho_factor(*given, **more))
    affinity = np.eye(400, k=1) + np.eye(400, k=-1)
    degree = np.diag(affinity.sum(axis=1))
    expected_values, expected = eigh(degree - affinity, degree)
    values, vectors = cut_eigenvectors(affinity, 3)
    assert factorised
    np.testing.assert_allclose(values, expected_values[1:4], atol=1e-9)
    signs = np.sign((vectors * expected[:, 1:4]).sum(axis=0))
    np.testing.assert_allclose(vectors * signs, expected[:, 1:4], atol=1e-6)


def test_eigenvectors_are_the_same_each_time_and_scaled():
    affinity = random_affinity(40, 3)
    _, first = cut_eigenvectors(affinity, 2)
    _, second = cut_eigenvectors(affinity, 2)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first.T @ np.diag(affinity.sum(axis=1)) @ first, np.eye(2), atol=1e-10)


def test_too_many_eigenvectors_are_refused():
    with pytest.raises(InputError, match=r"3 eigenvectors are asked of a graph of 4 patches; ask for 1 to 2"):
        cut_eigenvectors(random_affinity(4, 0), 3)


def slow_tokencut(features):
    """Return the mask of arXiv:2202.11539, step by step."""
    num_cells = len(features.values)
    edges = np.empty((num_cells, num_cells))
    for first in range(num_cells):
        for second in range(num_cells):
            one, other = features.values[first], features.values[second]
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            edges[first, second] = 1 if cosine > 0.2 else 1e-5
    degree = np.diag(edges.sum(axis=1))
    _, vectors = eigh(degree - edges, degree)
    vector = vectors[:, 1]
    is_above = vector > vector.mean()
    seed = np.argmax(np.abs(vector))
    foreground = (is_above if is_above[seed] else ~is_above).reshape(features.height, features.width)
    parts, _ = label(foreground)
    return parts == parts.flat[seed]


@pytest.mark.parametrize("seed", range(6))
def test_tokencut_matches_its_equations(seed):
    features = random_features(5, 9, seed=seed)
    np.testing.assert_array_equal(tokencut(features) > 0.5, slow_tokencut(features))


@pytest.mark.parametrize("sign", [1, -1])
def test_tokencut_finds_the_object_of_a_non_square_scene(sign):
    features = two_clusters(sign == rectangle() * sign)
    soft = tokencut(features)
    assert soft.shape == (HEIGHT, WIDTH)
    assert soft.dtype == np.float32
    assert (soft.min(), soft.max()) == (0, 1)
    np.testing.assert_array_equal(soft > 0.5, rectangle())


def test_tokencut_keeps_the_part_of_its_seed():
    mask = rectangle()
    mask[0, 0] = mask[6, 0] = True
    soft = tokencut(two_clusters(mask))
    parts = [rectangle(), np.eye(1, 84, 0).reshape(7, 12) > 0, np.eye(1, 84, 72).reshape(7, 12) > 0]
    assert any(np.array_equal(soft > 0.5, part) for part in parts)
    assert ((soft > 0.48) == mask).all()


@pytest.mark.parametrize("values", [np.ones((12, 3)), np.eye(12)])
def test_tokencut_without_anything_to_cut(values):
    features = PatchFeatures(values, np.ones((1, 12)), 3, 4)
    np.testing.assert_array_equal(tokencut(features), np.zeros((3, 4)))


def test_unit_length_by_hand():
    np.testing.assert_allclose(unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])
