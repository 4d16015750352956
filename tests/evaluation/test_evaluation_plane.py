"""Places in the plane: PCA against the singular value decomposition, t-SNE on groups, and what cannot be placed."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.plane import place_in_plane


def two_groups(num: int = 12) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.05, (num, 6))
    return noise + np.where(np.arange(num)[:, None] % 2 == 0, 1.0, -1.0) * np.eye(6)[0]


def test_pca_is_the_singular_value_decomposition() -> None:
    vectors = np.random.default_rng(0).normal(3.0, 1.0, (20, 5))
    plane = place_in_plane(vectors.astype(np.float32), "pca", 0)
    centred = vectors - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * singular[:2]
    np.testing.assert_allclose(np.abs(plane.places), np.abs(expected), atol=1e-4)  # an axis may point either way
    shares = singular**2 / (singular**2).sum()
    assert plane.variance == pytest.approx(shares[:2].tolist(), abs=1e-5)
    assert plane.perplexity is None


def test_tsne_keeps_groups_apart_and_repeats_itself() -> None:
    vectors = two_groups()
    plane = place_in_plane(vectors, "tsne", 3)
    np.testing.assert_array_equal(plane.places, place_in_plane(vectors, "tsne", 3).places)
    assert plane.variance is None
    assert plane.perplexity == pytest.approx(11 / 3)
    first, second = plane.places[::2], plane.places[1::2]
    spread = max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max())
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > spread / 2


def test_perplexity_is_bounded() -> None:
    assert place_in_plane(two_groups(5), "tsne", 0).perplexity == pytest.approx(4 / 3)


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((7, 4)), np.full((6, 1), 0.5)])
@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_one_vector_and_equal_vectors_lie_in_one_place(vectors: np.ndarray, method: str) -> None:
    if method == "tsne" and len(vectors) < 5:
        return
    plane = place_in_plane(vectors, method, 0)
    assert plane.places.shape == (len(vectors), 2)
    assert not plane.places.any()


@pytest.mark.parametrize("num", [2, 3])
def test_few_vectors_and_one_dimension(num: int) -> None:
    plane = place_in_plane(np.arange(num, dtype=np.float64)[:, None], "pca", 0)
    assert np.ptp(plane.places[:, 0]) == pytest.approx(num - 1)
    assert not plane.places[:, 1].any()


@pytest.mark.parametrize(
    ("vectors", "method", "message"),
    [
        (np.eye(4), "tsne", "t-SNE needs at least 5 masks, but there are 4; use the projection pca"),
        (np.full((6, 2), np.nan), "pca", "NaN or infinity"),
        (np.zeros((0, 2)), "pca", r"shape \(0, 2\)"),
        (np.eye(6), "umap", "projection 'umap' is unknown; choose pca or tsne"),
    ],
)
def test_refusals(vectors: np.ndarray, method: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        place_in_plane(vectors, method, 0)
