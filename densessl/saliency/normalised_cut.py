"""Normalised cuts of an affinity graph, and TokenCut (Wang et al., CVPR 2022, arXiv:2202.11539)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from densessl.errors import InputError
from densessl.models.patch_features import PatchFeatures
from densessl.saliency.colour import FloatMap
from densessl.saliency.patch_maps import keep_part, split_at

SIMILARITY_THRESHOLD = 0.2
"""Cosine tau above which two patches are joined, as published."""
WEAK_EDGE = 1e-5
"""Weight epsilon of all other edges, which keeps the graph connected, as published."""
_SHIFT = 1e-6
_MAX_RESTARTS = 15
"""Of Lanczos iterations without a factorisation, some 200 to 300 products: about what factorising costs instead."""

Product = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Affinity = NDArray[np.float64]  # (num_cells, num_cells), symmetric, at least 0


def tokencut(features: PatchFeatures) -> FloatMap:
    """Return TokenCut's soft map on the feature grid, (height, width) in [0, 1].

    The second smallest generalised eigenvector y of `(D - E) y = lambda D y`, E = 1 where the cosine of two patches
    exceeds tau and epsilon elsewhere, D its row sums. Foreground is the side of y's mean on which the patch with the
    largest |y| lies; the mask is the part of it, connected along edges, that holds this patch. The map is y scaled on
    each side of its mean. Where all pairs are joined, or none is, there is nothing to cut and the map is 0.
    """
    directions = unit_length(features.values)
    is_similar = directions @ directions.T > SIMILARITY_THRESHOLD
    num_joined = np.count_nonzero(is_similar) - np.count_nonzero(is_similar.diagonal())
    if num_joined in {0, len(is_similar) * (len(is_similar) - 1)}:
        return np.zeros((features.height, features.width), dtype=np.float32)
    _, vectors = cut_eigenvectors(np.where(is_similar, 1.0, WEAK_EDGE), 1)
    vector = vectors[:, 0]
    seed = int(np.argmax(np.abs(vector)))
    offset = vector - vector.mean()
    offset = offset if offset[seed] > 0 else -offset
    return keep_part(split_at(offset.reshape(features.height, features.width), 0), seed)


def cut_eigenvectors(affinity: Affinity, num_vectors: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest eigenvalues (k,), ascending, and vectors (num_cells, k) of `(D - W) y = lambda D y`.

    The constant vector, which solves it with lambda = 0, is left out. `y^T D y = 1`; the sign is arbitrary but the
    same each time. Found by Lanczos on the normalised Laplacian (Shi and Malik, TPAMI 2000), which only multiplies by
    W, 30 to 200 times for the features of photographs. Where that does not converge, as for long thin graphs, whose
    smallest eigenvalues are crowded, by shift-and-invert Lanczos: one dense Cholesky factorisation, then some tens of
    solves, at three times the memory.

    Args:
        affinity: W, symmetric (num_cells, num_cells), at least 0.
        num_vectors: k, at most num_cells - 2.

    Raises:
        InputError: more vectors than that.
    """
    num_cells = len(affinity)
    if not 1 <= num_vectors <= num_cells - 2:
        raise InputError(
            f"{num_vectors} eigenvectors are asked of a graph of {num_cells} patches; ask for 1 to {num_cells - 2}, or "
            "use more patches (a larger feature_size_px)"
        )
    root = np.sqrt(np.maximum(affinity.sum(axis=1), np.finfo(np.float64).tiny))
    constant = root / np.linalg.norm(root)

    def largest(product: Product, max_restarts: int | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        def deflated(vector: NDArray[np.float64]) -> NDArray[np.float64]:
            result = product(_without(vector.ravel(), constant))
            return _without(result, constant)

        start = _without(np.random.default_rng(0).standard_normal(num_cells), constant)  # ARPACK's own one is random
        operator = LinearOperator((num_cells, num_cells), matvec=deflated, dtype=float)
        values, vectors = eigsh(operator, k=num_vectors, which="LA", v0=start, maxiter=max_restarts)
        order = np.argsort(-values)
        return values[order], vectors[:, order] / root[:, None]

    try:  # 2 - lambda, the eigenvalues of 1 + D^-1/2 W D^-1/2, are not negative
        values, vectors = largest(lambda vector: vector + (affinity @ (vector / root)) / root, _MAX_RESTARTS)
    except ArpackNoConvergence:
        factor = _factorise(affinity, root)
        values, vectors = largest(lambda vector: cho_solve(factor, vector), None)
        return 1 / values - _SHIFT, vectors
    return 2 - values, vectors


def _without(vector: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector - direction * (direction @ vector)


def _factorise(affinity: Affinity, root: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Return the Cholesky factor of the normalised Laplacian, shifted so that it has one."""
    system = -affinity / np.outer(root, root)
    system[np.diag_indices(len(root))] += 1 + _SHIFT
    factor, is_lower = cho_factor(system, overwrite_a=True, check_finite=False)
    return factor, bool(is_lower)


def unit_length(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows (n, dim) scaled to length 1; rows of zeros stay zeros."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, np.finfo(np.float64).tiny)
