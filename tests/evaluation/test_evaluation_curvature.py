"""Coordinates for the exact probe: there and back, the chain rule, and what they are for."""

from dataclasses import replace

import numpy as np
from labelled_arrays import ArraySource, planted

from densessl.evaluation import logistic_regression
from densessl.evaluation.curvature import cell_covariance, coordinates
from densessl.evaluation.labelled_features import Classes
from densessl.evaluation.labelled_protocols import ExactLinearSettings
from densessl.evaluation.logistic_regression import fit_exact_probe, loss_and_gradient
from densessl.evaluation.probe_cells import collect_cells

SETTINGS = ExactLinearSettings(strengths=(1e-4,), tolerance=1e-6, precision="float64")
CLASSES = Classes((0, 2, 3), 5)


def _correlated() -> tuple[ArraySource, list]:
    """Planted features of which each is nearly a copy of another."""
    source, labels = planted(8, (0, 2, 3), noise=2.0)
    rng = np.random.default_rng(0)
    mixing = np.ones((5, 5)) + 0.05 * rng.normal(size=(5, 5))
    return ArraySource(tuple(np.tensordot(mixing, image, 1).astype(np.float32) for image in source.maps)), labels


def test_there_and_back_and_the_chain_rule() -> None:
    source, labels = _correlated()
    cells = collect_cells(source, labels.__getitem__, CLASSES)
    scaled = coordinates(cell_covariance(cells), 1e-3)
    rng = np.random.default_rng(1)
    parameters, step = rng.normal(size=18), 1e-6 * rng.normal(size=18)
    np.testing.assert_allclose(scaled.parameters(scaled.point(parameters)), parameters, rtol=1e-6)
    point = scaled.point(parameters)
    before, gradient = loss_and_gradient(scaled.parameters(point), cells, 1e-3, SETTINGS)
    after, _ = loss_and_gradient(scaled.parameters(point + step), cells, 1e-3, SETTINGS)
    np.testing.assert_allclose(after - before, scaled.gradient(gradient) @ step, rtol=1e-3)


def test_correlated_features_take_few_passes(monkeypatch) -> None:
    source, labels = _correlated()
    fast = fit_exact_probe(source, labels.__getitem__, CLASSES, SETTINGS)
    plain = replace(
        coordinates(cell_covariance(collect_cells(source, labels.__getitem__, CLASSES)), 0.0), basis=np.eye(5)
    )
    monkeypatch.setattr(logistic_regression, "coordinates", lambda *_: replace(plain, bias_scale=1.0))
    slow = fit_exact_probe(source, labels.__getitem__, CLASSES, SETTINGS)
    assert fast.is_converged
    assert slow.is_converged
    np.testing.assert_allclose(fast.loss, slow.loss, rtol=1e-6)
    assert fast.num_passes < 0.6 * slow.num_passes, (fast.num_passes, slow.num_passes)
