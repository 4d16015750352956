"""Ward merging: equal to scipy for single vectors, to merging the vectors themselves for over-clusters."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from densessl.evaluation.cluster_merging import merge_by_ward


@pytest.mark.parametrize("num_groups", [1, 2, 5, 30])
def test_equals_scipy_for_single_vectors(num_groups: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 3))
    other = fcluster(linkage(vectors, "ward"), num_groups, "maxclust")
    found = merge_by_ward(vectors, np.ones(30, dtype=np.int64), num_groups)
    assert adjusted_rand_score(other, found) == 1.0
    assert sorted(set(found.tolist())) == list(range(num_groups))


def test_sizes_count_by_hand() -> None:
    # Joining 0 and 1 costs 50 * 50 / 100 * 1 = 25, joining 1 and 2 costs 50 * 1 / 51 * 4 = 3.9.
    centroids = np.array([[0.0], [1.0], [3.0]])
    assert merge_by_ward(centroids, np.array([50, 50, 1]), 2).tolist() == [0, 1, 1]
    assert merge_by_ward(centroids, np.array([1, 1, 1]), 2).tolist() == [0, 0, 1]


def test_equals_merging_repeated_vectors() -> None:
    rng = np.random.default_rng(3)
    centroids, sizes = rng.normal(size=(12, 2)), rng.integers(1, 6, 12)
    repeated = np.repeat(centroids, sizes, axis=0)  # equal vectors are joined first, at no cost
    other = fcluster(linkage(repeated, "ward"), 4, "maxclust")
    assert adjusted_rand_score(other, np.repeat(merge_by_ward(centroids, sizes, 4), sizes)) == 1.0
