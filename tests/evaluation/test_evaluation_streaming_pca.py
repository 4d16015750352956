"""PCA over a stream: equal to scikit-learn on all vectors, however they are cut; too little variance said."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from densessl.errors import InputError
from densessl.evaluation.projection import project
from densessl.evaluation.streaming_pca import standardised_pca


@pytest.mark.parametrize("is_standardised", [True, False])
def test_equals_scikit_learn_up_to_signs(is_standardised: bool) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7)) * np.arange(1, 8) + 50).astype(np.float32)
    projection, notes = standardised_pca(lambda: np.split(vectors, [40, 41, 200]), 4, is_standardised)
    scaled = StandardScaler().fit_transform(vectors) if is_standardised else vectors
    expected = PCA(4).fit_transform(scaled)
    found = project(vectors, projection)
    signs = np.sign((expected * found).sum(axis=0))
    assert found * signs == pytest.approx(expected, abs=2e-3)
    assert notes == ()


def test_constant_dimensions_and_too_few_directions() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    vectors[:, 1] = 4
    projection, notes = standardised_pca(lambda: [vectors], 3)
    assert projection.components is not None
    assert projection.components.shape == (2, 3)
    assert "2 dimensions instead of 3" in notes[0]
    plain, notes = standardised_pca(lambda: [np.ones((5, 2), np.float32)], 2)
    assert plain.components is None
    assert "collapsed" in notes[0]
    with pytest.raises(InputError, match="at least 2 vectors, the stream has 1"):
        standardised_pca(lambda: [vectors[:1]], 2)
