"""LOST and FOUND's background: the papers' steps as slow loops, scenes with a known answer."""

import math

import numpy as np
import pytest
from saliency_patch_scenes import HEIGHT, WIDTH, random_features, rectangle, two_clusters
from scipy.ndimage import label

from densessl.models.patch_features import PatchFeatures
from densessl.saliency import seed_expansion
from densessl.saliency.seed_expansion import found_seeds, head_weights, lost


def slow_lost(features, num_patches):
    """Return the mask of arXiv:2109.14279, patch by patch."""
    values = features.values
    degree = [sum(1 for other in values if one @ other > 0) for one in values]
    order = sorted(range(len(values)), key=lambda patch: degree[patch])
    seed = order[0]
    similar = [patch for patch in order[:num_patches] if values[patch] @ values[seed] > 0]
    mask = np.array([sum(values[patch] @ values[other] for other in similar) > 0 for patch in range(len(values))])
    parts, _ = label(mask.reshape(features.height, features.width))
    return parts == parts.flat[seed]


@pytest.mark.parametrize("num_patches", [1, 5, 100])
@pytest.mark.parametrize("seed", range(4))
def test_lost_matches_its_equations(num_patches, seed, monkeypatch):
    monkeypatch.setattr(seed_expansion, "NUM_EXPANSION_PATCHES", num_patches)
    features = random_features(5, 9, seed=seed)
    np.testing.assert_array_equal(lost(features) > 0.5, slow_lost(features, num_patches))


def test_lost_expands_within_the_published_number_of_patches():
    assert seed_expansion.NUM_EXPANSION_PATCHES == 100


@pytest.mark.parametrize("method", [lost, found_seeds])
def test_the_object_of_a_non_square_scene_is_found(method):
    soft = method(two_clusters(rectangle()))
    assert (soft.shape, soft.dtype) == ((HEIGHT, WIDTH), np.float32)
    assert (soft.min(), soft.max()) == (0, 1)
    np.testing.assert_array_equal(soft > 0.5, rectangle())


def test_lost_keeps_the_part_of_its_seed_and_found_keeps_all():
    mask = rectangle()
    mask[0, 0] = True
    features = two_clusters(mask)
    assert (lost(features) > 0.5).sum() in {1, 12}
    np.testing.assert_array_equal(found_seeds(features) > 0.5, mask)


def slow_found(features):
    """Return the foreground of arXiv:2212.07834, section 3, head by head and patch by patch."""
    num_heads, num_cells = features.attention.shape
    mean = features.attention.sum() / features.attention.size
    share = [sum(value > mean for value in head) / num_cells + 1e-10 for head in features.attention]
    weights = [math.log(sum(share) / one) for one in share]
    dim = features.values.shape[1] // num_heads
    received = [sum(weights[h] * features.attention[h, cell] for h in range(num_heads)) for cell in range(num_cells)]
    seed = received.index(min(received))

    def weighted(cell):
        heads = [features.values[cell, h * dim : (h + 1) * dim] * weights[h] for h in range(num_heads)]
        return np.concatenate(heads)

    def cosine(one, other):
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)

    background = [cosine(weighted(cell), weighted(seed)) > 0.3 for cell in range(num_cells)]
    return ~np.array(background).reshape(features.height, features.width)


@pytest.mark.parametrize("seed", range(4))
def test_found_matches_its_equations(seed):
    features = random_features(5, 9, dim=12, num_heads=3, seed=seed)
    np.testing.assert_array_equal(found_seeds(features) > 0.5, slow_found(features))


def test_head_weights_by_hand():
    attention = np.array([[9.0, 1.0, 1.0, 1.0], [4.0, 4.0, 4.0, 0.0]])  # mean 3; shares 1/4 and 3/4
    np.testing.assert_allclose(head_weights(attention), [np.log(4), np.log(4 / 3)], rtol=1e-6)
    np.testing.assert_array_equal(head_weights(attention[:1]), [1])


def test_without_attention_the_seed_is_the_smallest_norm():
    """The only patch like the one with the smallest norm is background."""
    values = np.array([[1.0, 0], [0, 1], [0.9, 0.1], [-1, 0.2], [0.1, 1], [-1, 0]])
    features = PatchFeatures(values, np.array([[5.0, 1, 5, 5, 5, 5]]), 2, 3)
    np.testing.assert_array_equal(found_seeds(features) > 0.5, [[True, False, True], [True, False, True]])
