"""Which masks stand for their cluster, and which are least like it."""

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.patch_memory import unit_rows


def cluster_medoids(vectors: NDArray[np.floating], clusters: NDArray[np.int64]) -> dict[int, int]:
    """Return, by cluster, the row whose mean cosine to all rows of its cluster is highest.

    Of equals the first. vectors: (num, dim). clusters: (num,), any numbers; those without rows are not in the result.
    """
    fit = fit_to_cluster(vectors, clusters)
    rows: dict[int, int] = {}
    for cluster in np.unique(clusters).tolist():
        members = np.flatnonzero(clusters == cluster)
        rows[cluster] = int(members[fit[members].argmax()])
    return rows


def least_typical(vectors: NDArray[np.floating], clusters: NDArray[np.int64], num: int) -> list[int]:
    """Return the `num` rows that fit their clusters worst (`fit_to_cluster`), the worst first.

    A row that is alone in its cluster fits it by definition and is not among them, so there can be fewer.
    """
    fit = fit_to_cluster(vectors, clusters)
    _, inverse, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(sizes[inverse] > 1)
    return candidates[np.argsort(fit[candidates], kind="stable")][:num].tolist()


def fit_to_cluster(vectors: NDArray[np.floating], clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean cosine of each row to the rows of its cluster, itself included, float64 (num,), in [-1, 1].

    `mean_j cos(x_i, x_j) = u_i . mean_j u_j` with u = x / |x|, so the rows need not be compared with one another.
    Raises `InputError` where there are not as many clusters as rows.
    """
    if len(vectors) != len(clusters):
        raise InputError(f"got {len(clusters)} cluster numbers for {len(vectors)} vectors; give one each")
    unit = unit_rows(vectors)
    fit = np.zeros(len(unit), dtype=np.float64)
    for cluster in np.unique(clusters).tolist():
        members = clusters == cluster
        mean = unit[members].mean(axis=0, dtype=np.float64)
        fit[members] = unit[members] @ mean
    return fit
