"""Coordinates for a logistic regression in which its loss is about as curved in every direction."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.evaluation.probe_cells import ProbeCells

SAMPLED_CELLS = 100_000
"""Cells whose covariance stands for that of all; it decides how many passes a fit takes, not where it ends."""
MEAN_CURVATURE = 0.1
"""What `p (1 - p)` of a softmax is taken to be."""


@dataclass(frozen=True)
class CellCovariance:
    """Of standardised cells: values (dim,), vectors (dim, dim), one in each row."""

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]


@dataclass(frozen=True)
class Coordinates:
    """`W = V basis` and `b = bias_scale v`, for parameters W (num_classes, dim), b (num_classes,).

    The second derivative of the cross-entropy by one class's weights is the mean of `p (1 - p) x x'` over cells x, to
    which the penalty adds its strength. With the eigenvectors of the covariance in the rows of `basis`, each over the
    root of that sum, it becomes about the identity, and L-BFGS needs tens of passes where it needs hundreds.
    """

    basis: NDArray[np.float64]
    bias_scale: float

    def parameters(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return W and b, flat, of V and v, flat."""
        weight, bias = self._unpacked(point)
        return np.concatenate([(weight @ self.basis).ravel(), self.bias_scale * bias])

    def gradient(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gradient by V and v of the gradient by W and b."""
        weight, bias = self._unpacked(gradient)
        return np.concatenate([(weight @ self.basis.T).ravel(), self.bias_scale * bias])

    def point(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return V and v of W and b."""
        weight, bias = self._unpacked(parameters)
        squares = (self.basis**2).sum(axis=1)  # its rows are orthogonal
        return np.concatenate([(weight @ (self.basis.T / squares)).ravel(), bias / self.bias_scale])

    def _unpacked(self, flat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        dim = len(self.basis)
        num_classes = len(flat) // (dim + 1)
        return flat[:-num_classes].reshape(num_classes, dim), flat[-num_classes:]


def cell_covariance(cells: ProbeCells) -> CellCovariance:
    """Return the covariance of about `SAMPLED_CELLS` cells of evenly spread images."""
    num_cells = sum(shares.num_cells for shares in cells.shares)
    step = max(1, num_cells // SAMPLED_CELLS)
    total, number = np.zeros((cells.dim, cells.dim)), 0
    for position in range(0, len(cells.shares), step):
        inputs = cells.standardised(position, "float32")
        total += inputs @ inputs.T
        number += inputs.shape[1]
    values, vectors = np.linalg.eigh(total / number)
    return CellCovariance(np.maximum(values, 0), vectors.T)


def coordinates(covariance: CellCovariance, strength: float) -> Coordinates:
    """Return the coordinates for a penalty of that strength."""
    curvature = MEAN_CURVATURE * covariance.values
    curvature += strength + 1e-8 * max(float(curvature.max()), np.finfo(np.float64).tiny)
    return Coordinates(covariance.vectors / np.sqrt(curvature)[:, None], MEAN_CURVATURE**-0.5)
