"""Projection: equals scikit-learn's PCA, keeps no noise directions."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from densessl.evaluation.projection import Projection, fit_projection, project
from densessl.evaluation.protocols import MASKCONTRAST, NATIVE


@pytest.mark.parametrize("whiten", [True, False])
def test_equals_sklearn(whiten: bool) -> None:
    vectors = np.random.default_rng(0).normal(size=(90, 40)).astype(np.float32)
    projection, notes = fit_projection(vectors, replace(MASKCONTRAST, is_whitened=whiten), seed=0)
    theirs = PCA(32, whiten=whiten, random_state=0).fit_transform(vectors)
    assert project(vectors, projection) == pytest.approx(theirs, abs=1e-4)
    assert notes == ()
    if whiten:
        assert project(vectors, projection).std(0, ddof=1) == pytest.approx(np.ones(32), abs=1e-3)


def test_directions_without_variance_are_not_whitened() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 48))).astype(np.float32)
    projection, notes = fit_projection(vectors, MASKCONTRAST, seed=0)
    assert projection.components is not None
    assert projection.components.shape == (5, 48)
    assert "keeps 5 dimensions instead of 32" in notes[0]


def test_zero_vectors_stay_zero_when_normalised() -> None:
    vectors = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert project(vectors, Projection(True, False)).tolist() == [
        [0.0, 0.0],
        [pytest.approx(0.6), pytest.approx(0.8)],
    ]


def test_normalisation_precedes_the_pca() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)
    lengths = np.random.default_rng(1).uniform(0.1, 10, size=(60, 1)).astype(np.float32)
    projection, _ = fit_projection(vectors, NATIVE, seed=0)
    assert project(vectors * lengths, projection) == pytest.approx(project(vectors, projection), abs=1e-5)
