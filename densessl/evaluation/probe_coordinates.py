"""Coordinates in which the loss of a linear probe is nearly round, so that L-BFGS needs few passes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.evaluation.probe_cells import ProbeCells

_CELLS_PER_DIMENSION = 8
"""So many cells for each dimension of the features make the estimate of their second moments."""


@dataclass(frozen=True)
class ProbeCoordinates:
    """`W = (Y * scales) directions^T`, row by row: the optimum in Y is the optimum in W, whatever the numbers are.

    directions: float64 (dim, dim), orthonormal columns. scales: float64 (num_classes, dim), positive.
    """

    directions: NDArray[np.float64]
    scales: NDArray[np.float64]

    def weights(self, inner: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return W (num_classes, dim) of Y."""
        return (inner * self.scales) @ self.directions.T

    def inner(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Y of W."""
        return (weights @ self.directions) / self.scales

    def inner_gradient(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gradient with respect to Y of one with respect to W."""
        return (gradient @ self.directions) * self.scales


@dataclass(frozen=True)
class SecondMoments:
    """Eigenvectors (dim, dim), as columns, and eigenvalues (dim,) of `E[x x^T]` of the standardised cells."""

    directions: NDArray[np.float64]
    values: NDArray[np.float64]


def estimate_second_moments(cells: ProbeCells) -> SecondMoments:
    """Estimate the second moments from the cells of evenly chosen images; it need not be exact."""
    num_cells = sum(shares.num_cells for shares in cells.shares)
    step = max(1, num_cells // (_CELLS_PER_DIMENSION * cells.dim))
    total, weight = np.zeros((cells.dim, cells.dim)), 0.0
    for position in range(0, len(cells.shares), step):
        inputs = cells.standardised(position, "float32")
        labelled = cells.shares[position].dense(len(cells.classes), np.float32).sum(axis=0)
        total += (inputs * labelled) @ inputs.T
        weight += float(labelled.sum())
    values, directions = np.linalg.eigh(total / weight)
    return SecondMoments(directions, np.maximum(values, 1e-6 * values[-1]))


def probe_coordinates(moments: SecondMoments, cells: ProbeCells, strength: float) -> ProbeCoordinates:
    """Return the coordinates that make the Hessian at the classes' shares of all cells the identity.

    There the Hessian of class c is about `p_c (1 - p_c) E[x x^T] + strength`, with p_c its share.
    """
    shares = np.zeros(len(cells.classes))
    for sparse in cells.shares:
        shares += np.bincount(sparse.rows, sparse.values, minlength=len(shares))
    shares /= shares.sum()
    curvature = np.maximum(shares * (1 - shares), 1e-3)
    return ProbeCoordinates(moments.directions, 1 / np.sqrt(curvature[:, None] * moments.values + strength))
