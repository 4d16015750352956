"""Normalised cuts of an affinity graph, and TokenCut (Wang et al., CVPR 2022, arXiv:2202.11539)."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, eigsh

from densessl.errors import InputError
from densessl.models.patch_features import PatchFeatures
from densessl.saliency.colour import FloatMap
from densessl.saliency.patch_maps import keep_part, split_at

SIMILARITY_THRESHOLD = 0.2
"""Cosine tau above which two patches are joined, as published."""
WEAK_EDGE = 1e-5
"""Weight epsilon of all other edges, which keeps the graph connected, as published."""
_SHIFT = 1e-6

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
    same each time. Found by shift-and-invert Lanczos on the normalised Laplacian (Shi and Malik, TPAMI 2000), whose
    smallest eigenvalues can lie 1e-6 apart: one Cholesky factorisation, then some tens of solves.

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
    system = -affinity / np.outer(root, root)
    system[np.diag_indices(num_cells)] += 1 + _SHIFT
    factor = cho_factor(system, overwrite_a=True, check_finite=False)
    constant = root / np.linalg.norm(root)

    def deflate(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return vector - constant * (constant @ vector)

    inverse = LinearOperator(
        (num_cells, num_cells), matvec=lambda vector: deflate(cho_solve(factor, deflate(vector.ravel()))), dtype=float
    )
    start = deflate(np.random.default_rng(0).standard_normal(num_cells))  # ARPACK's own start differs each time
    values, vectors = eigsh(inverse, k=num_vectors, which="LA", v0=start)
    order = np.argsort(-values)
    return 1 / values[order] - _SHIFT, vectors[:, order] / root[:, None]


def unit_length(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows (n, dim) scaled to length 1; rows of zeros stay zeros."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(length, np.finfo(np.float64).tiny)
