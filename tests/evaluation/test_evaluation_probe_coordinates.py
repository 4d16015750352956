"""Coordinates of a probe: there and back, the gradient's chain rule, and second moments by hand."""

import numpy as np
import pytest
from labelled_arrays import planted

from densessl.evaluation.labelled_features import Classes
from densessl.evaluation.probe_cells import collect_cells
from densessl.evaluation.probe_coordinates import estimate_second_moments, probe_coordinates


def test_second_moments_of_standardised_cells_and_round_trip() -> None:
    source, labels = planted(5, (0, 2, 3))
    cells = collect_cells(source, labels.__getitem__, Classes((0, 2, 3), 5))
    moments = estimate_second_moments(cells)
    rows = np.concatenate([cells.standardised(position, "float64").T for position in range(5)])
    weights = np.concatenate([shares.dense(3, np.float64).sum(axis=0) for shares in cells.shares])
    expected = (rows * weights[:, None]).T @ rows / weights.sum()
    assert moments.directions @ np.diag(moments.values) @ moments.directions.T == pytest.approx(expected, abs=1e-5)
    assert np.diag(expected) == pytest.approx(np.ones(5), abs=1e-6)  # standardised
    coordinates = probe_coordinates(moments, cells, 0.1)
    generator = np.random.default_rng(0)
    weight, gradient, step = generator.normal(size=(3, 3, 5))
    assert coordinates.weights(coordinates.inner(weight)) == pytest.approx(weight, abs=1e-10)
    moved = float((gradient * coordinates.weights(step)).sum())
    assert float((coordinates.inner_gradient(gradient) * step).sum()) == pytest.approx(moved)
