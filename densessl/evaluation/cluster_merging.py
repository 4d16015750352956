"""Merging over-clusters into fewer: Ward's criterion on their centroids and sizes."""

import numpy as np
from numpy.typing import NDArray


def merge_by_ward(centroids: NDArray[np.floating], sizes: NDArray[np.integer], num_groups: int) -> NDArray[np.int64]:
    """Merge clusters until `num_groups` are left; returns the group of each, int64 (num_clusters,).

    Each step joins the pair that raises the sum of squared distances to the centroids least, by
    `|a| |b| / (|a| + |b|) ||c_a - c_b||^2` (Ward 1963), as if the vectors of the clusters were merged and not their
    centroids alone. Groups are numbered in the order of their first cluster; of equal pairs the first is joined.

    centroids: (num_clusters, dim). sizes: (num_clusters,), above 0. The matrix of all pairs is held, and each step
    reads it once: meant for at most a few thousand clusters.
    """
    means, weights = centroids.astype(np.float64), sizes.astype(np.float64)
    costs = np.stack([_costs(means, weights, row) for row in range(len(means))])
    np.fill_diagonal(costs, np.inf)
    group = np.arange(len(means))
    for _ in range(len(means) - num_groups):
        kept, joined = sorted(divmod(int(costs.argmin()), len(means)))
        total = weights[kept] + weights[joined]
        means[kept] = (weights[kept] * means[kept] + weights[joined] * means[joined]) / total
        weights[kept] = total
        group[group == joined] = kept
        is_gone = np.isinf(costs[kept])  # pairs with clusters joined before, and with itself
        updated = np.where(is_gone, np.inf, _costs(means, weights, kept))
        costs[kept], costs[:, kept] = updated, updated
        costs[joined], costs[:, joined] = np.inf, np.inf
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def _costs(means: NDArray[np.float64], weights: NDArray[np.float64], row: int) -> NDArray[np.float64]:
    """Return what joining cluster `row` with each other one costs."""
    squared: NDArray[np.float64] = ((means - means[row]) ** 2).sum(axis=1)
    return weights * weights[row] / (weights + weights[row]) * squared
