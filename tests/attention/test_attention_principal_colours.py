"""Principal components as colours: against scikit-learn, one basis for all images, the side of the foreground."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from densessl.attention.principal_colours import fit_colour_basis, pca_rgb
from densessl.errors import InputError


@pytest.fixture
def features() -> list[np.ndarray]:
    """Two images, wide and tall, each with an object in its middle that differs from the background."""
    generator = np.random.default_rng(0)
    images = []
    for size in ((6, 9), (8, 5)):
        image = generator.normal(0, 0.3, (*size, 7))
        image[2:-2, 2:-2, 1] += 5
        image[2:-2, 2:-2] += generator.normal(0, 1, (size[0] - 4, size[1] - 4, 7)) * 0.3 * np.arange(7)
        images.append(image.astype(np.float32))
    return images


def test_the_middle_is_the_foreground(features: list[np.ndarray]) -> None:
    for image, coloured in zip(features, pca_rgb(features), strict=True):
        border = np.ones(image.shape[:2], bool)
        border[1:-1, 1:-1] = False
        assert coloured.foreground[border].mean() < 0.1
        assert coloured.foreground.any()
        assert (coloured.rgb[~coloured.foreground] == 0).all()
        assert coloured.rgb.shape == (*image.shape[:2], 3)
        assert 0 <= coloured.rgb.min() <= coloured.rgb.max() <= 1


def test_components_are_those_of_scikit_learn(features: list[np.ndarray]) -> None:
    basis = fit_colour_basis(lambda: features)
    whole = np.concatenate([image.reshape(-1, 7) for image in features]).astype(np.float64)
    first = PCA(1).fit(whole).components_[0]
    assert abs(basis.first @ first) == pytest.approx(1, abs=1e-6)
    kept = np.concatenate([image[basis.foreground(image)] for image in features]).astype(np.float64)
    expected = PCA(3, svd_solver="full").fit(kept)
    np.testing.assert_allclose(np.abs(np.sum(basis.components * expected.components_, axis=1)), 1, atol=1e-6)
    scores = (kept - expected.mean_) @ basis.components.T
    np.testing.assert_allclose(basis.low, np.percentile(scores, 1, axis=0), atol=1e-6)
    np.testing.assert_allclose(basis.high, np.percentile(scores, 99, axis=0), atol=1e-6)


def test_one_basis_for_all(features: list[np.ndarray]) -> None:
    """The same feature has the same colour in every image."""
    features[1][3, 2] = features[0][3, 4]
    first, second = pca_rgb(features)
    np.testing.assert_array_equal(first.rgb[3, 4], second.rgb[3, 2])


def test_the_background_can_stay(features: list[np.ndarray]) -> None:
    coloured = pca_rgb(features, remove_background=False)
    assert all(item.foreground.all() for item in coloured)
    scores = PCA(3, svd_solver="full").fit_transform(np.concatenate([image.reshape(-1, 7) for image in features]))
    red = np.concatenate([item.rgb[..., 0].ravel() for item in coloured])
    assert abs(np.corrcoef(red, scores[:, 0])[0, 1]) > 0.97  # the rest is clipped


def test_refusals(features: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="5 channels after 7"):
        pca_rgb([features[0], features[1][..., :5]])
    with pytest.raises(InputError, match="found 54 and 2"):
        pca_rgb([features[0][..., :2]])
    with pytest.raises(InputError, match="found 0 and 0"):
        pca_rgb([])


def test_few_patches_and_patches_that_are_all_alike(features: list[np.ndarray]) -> None:
    for image in (np.ones((4, 4, 5), np.float32), np.ones((1, 1, 3), np.float32), features[0][:1, :2]):
        coloured = pca_rgb([image])[0]
        assert np.isfinite(coloured.rgb).all()
        assert coloured.foreground.any()
