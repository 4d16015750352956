"""Normalisation and PCA between prototypes and clusters: fitted once, applied to any vector."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from densessl.evaluation.protocols import ClusterProtocol

NEGLIGIBLE_VARIANCE = 1e-10
"""Directions below this share of the largest variance are rounding noise, which whitening would amplify."""

ROUNDING_VARIANCE = 1e-13
"""Variance below this share of the mean squared length is what float32 rounding leaves of equal vectors."""


@dataclass(frozen=True)
class Projection:
    """An affine map of vectors, with L2 normalisation before or after.

    components: float32 (projected dim, dim) and mean: float32 (dim,), or both None for no PCA.
    scale: float32 (projected dim,), what whitening divides by; None where nothing is whitened.
    """

    is_input_normalised: bool
    is_output_normalised: bool
    mean: NDArray[np.float32] | None = None
    components: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None


def fit_projection(
    vectors: NDArray[np.float32], protocol: ClusterProtocol, seed: int
) -> tuple[Projection, tuple[str, ...]]:
    """Fit the protocol's PCA to vectors (num_vectors, dim), and say in words where less was possible.

    At most min(num_vectors - 1, dim) directions carry variance; fewer than `protocol.pca_dim` are then kept.
    `seed` matters only to the randomised solver that scikit-learn chooses for large data.
    """
    if protocol.is_input_normalised:
        vectors = _normalised(vectors)
    plain = Projection(protocol.is_input_normalised, protocol.is_projection_normalised)
    if protocol.pca_dim is None:
        return plain, ()
    num_vectors, dim = vectors.shape
    num_kept = min(protocol.pca_dim, num_vectors - 1, dim)
    if num_kept < 1:
        return plain, (f"no PCA: {num_vectors} vector has no directions of variance",)
    pca = PCA(num_kept, random_state=seed).fit(vectors)
    variance = np.maximum(pca.explained_variance_, 0.0)
    mean_squared_length = float((vectors.astype(np.float64) ** 2).sum() / num_vectors)
    floor = max(NEGLIGIBLE_VARIANCE * float(variance[0]), ROUNDING_VARIANCE * mean_squared_length)
    has_variance = variance > floor
    num_kept = int(has_variance.sum())
    if num_kept < 1:
        return plain, ("no PCA: all vectors are equal (collapsed features)",)
    notes: tuple[str, ...] = ()
    if num_kept < protocol.pca_dim:
        notes = (
            f"PCA keeps {num_kept} dimensions instead of {protocol.pca_dim}: {num_vectors} vectors of {dim} "
            "dimensions have no more with variance",
        )
    return (
        Projection(
            plain.is_input_normalised,
            plain.is_output_normalised,
            mean=pca.mean_.astype(np.float32),
            components=pca.components_[:num_kept].astype(np.float32),
            scale=np.sqrt(variance[:num_kept]).astype(np.float32) if protocol.is_whitened else None,
        ),
        notes,
    )


def project(vectors: NDArray[np.floating], projection: Projection) -> NDArray[np.float32]:
    """Apply a fitted projection to vectors (num_vectors, dim): float32 (num_vectors, projected dim)."""
    projected = np.ascontiguousarray(vectors, dtype=np.float32)
    if projection.is_input_normalised:
        projected = _normalised(projected)
    if projection.components is not None and projection.mean is not None:
        projected = projected @ projection.components.T - projection.mean @ projection.components.T
    if projection.scale is not None:
        projected = projected / projection.scale
    if projection.is_output_normalised:
        projected = _normalised(projected)
    return np.ascontiguousarray(projected, dtype=np.float32)


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide rows by their length; a row of zeros stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)
