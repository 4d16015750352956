"""Places of vectors in the plane, for a map of them: principal components or t-SNE."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from densessl.errors import InputError

PlaneMethod = Literal["pca", "tsne"]

PERPLEXITY = 30.0
"""Of t-SNE, where there are vectors enough: within the 5 to 50 that its authors recommend."""
FEWEST_FOR_TSNE = 5
"""With fewer vectors no perplexity above 1 leaves each of them neighbours to tell from the rest."""
_TSNE_INPUT_DIM = 50


@dataclass(frozen=True)
class Plane:
    """Vectors in two dimensions.

    places: float32 (num, 2), `(x, y)`. variance: the shares of the variance along x and y, for `pca`; None for `tsne`,
    whose axes mean nothing. perplexity: of `tsne`.
    """

    places: NDArray[np.float32]
    variance: tuple[float, float] | None
    perplexity: float | None


def place_in_plane(vectors: NDArray[np.floating], method: PlaneMethod, seed: int) -> Plane:
    """Project vectors (num, dim) to the plane; the same on every number of cores.

    - `pca`: the first two principal components of the vectors as they are; distances in the plane are at most those of
      the vectors.
    - `tsne`: t-SNE (van der Maaten and Hinton, JMLR 2008) of their first 50 principal components, as there, begun at
      the first two. The perplexity is 30, or a third of the other vectors where that is less. Who is near whom tells
      something, distances between groups and their sizes do not.

    Args:
        vectors: at least one; finite.
        method: how.
        seed: of the randomised solvers of large PCA and of t-SNE.

    Raises:
        InputError: an unknown method, no vector, values that are not finite, fewer than 5 vectors for t-SNE.
    """
    _check(vectors, method)
    centred = np.asarray(vectors, dtype=np.float32)
    centred = centred - centred.mean(axis=0, dtype=np.float64).astype(np.float32)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3) if method == "tsne" else None
    if not np.abs(centred).max(initial=0) > 0:  # all are the same, or there is one: neither method is defined
        return Plane(np.zeros((len(vectors), 2), np.float32), None if perplexity else (0.0, 0.0), perplexity)
    centred = _with_two_columns(centred)
    with threadpool_limits(limits=1):
        if perplexity is None:
            pca = PCA(2, random_state=seed)
            places = pca.fit_transform(centred)
            shares = (float(pca.explained_variance_ratio_[0]), float(pca.explained_variance_ratio_[1]))
            return Plane(places.astype(np.float32), shares, None)
        reduced = PCA(min(_TSNE_INPUT_DIM, *centred.shape), random_state=seed).fit_transform(centred)
        tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
        return Plane(np.asarray(tsne.fit_transform(reduced), dtype=np.float32), None, perplexity)


def _with_two_columns(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.pad(vectors, ((0, 0), (0, max(0, 2 - vectors.shape[1]))))


def _check(vectors: NDArray[np.floating], method: str) -> None:
    if method not in ("pca", "tsne"):
        raise InputError(f"projection {method!r} is unknown; choose pca or tsne")
    if vectors.ndim != 2 or not vectors.size:
        raise InputError(f"vectors have shape {vectors.shape}; a plane is made for one or more, (num, dim)")
    if not np.isfinite(vectors).all():
        raise InputError("a vector holds NaN or infinity; check the weights the features come from")
    if method == "tsne" and len(vectors) < FEWEST_FOR_TSNE:
        raise InputError(
            f"t-SNE needs at least {FEWEST_FOR_TSNE} masks, but there are {len(vectors)}; use the projection pca, or "
            "add images"
        )
