"""The number of clusters without labels: planted numbers are found, curves by hand, too few vectors refused."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from densessl.errors import InputError
from densessl.evaluation import cluster_number
from densessl.evaluation.cluster_number import NumberChoice, NumberScore, choose_num_clusters
from densessl.evaluation.clustering import cluster_prototypes, silhouette
from densessl.evaluation.protocols import NATIVE

PROTOCOL = replace(NATIVE, algorithm="fast", num_initialisations=2)


def planted(num_clusters: int, num: int = 100) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, num_clusters, num)
    return (3 * np.eye(10)[truth] + 0.4 * rng.normal(size=(num, 10))).astype(np.float32)


@pytest.mark.parametrize("num_clusters", [3, 5])
def test_finds_the_planted_number(num_clusters: int) -> None:
    choice = choose_num_clusters(planted(num_clusters), range(2, 7), PROTOCOL, seed=0)
    assert choice.chosen == num_clusters
    assert choice.to_json()["highest_silhouette"] == num_clusters
    assert [score.num_clusters for score in choice.scores] == list(range(2, 7))


def test_scores_are_those_of_subsets_compared_on_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_number, "NUM_SUBSETS", 2)
    vectors = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    score = choose_num_clusters(vectors, [4], PROTOCOL, seed=3).scores[0]
    rng = np.random.default_rng(3)
    first, second = (np.sort(rng.choice(60, 48, replace=False)) for _ in range(2))
    one = dict(zip(first, cluster_prototypes(vectors[first], 4, PROTOCOL, 3).assignments, strict=True))
    other = dict(zip(second, cluster_prototypes(vectors[second], 4, PROTOCOL, 4).assignments, strict=True))
    shared = sorted(one.keys() & other.keys())
    assert score.stability == pytest.approx(adjusted_rand_score([one[i] for i in shared], [other[i] for i in shared]))
    assert score.silhouette == silhouette(vectors, cluster_prototypes(vectors, 4, PROTOCOL, 3), seed=3)


def test_the_rule_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {2: 0.99, 3: 0.70, 4: 0.975, 5: 0.96}
    monkeypatch.setattr(
        cluster_number, "_score", lambda vectors, number, *rest: NumberScore(number, values[number], 0.0, None)
    )
    assert choose_num_clusters(np.zeros((50, 2)), [2, 3, 4, 5], PROTOCOL, seed=0).chosen == 4  # 0.99 - 0.02 = 0.97
    assert NumberChoice((NumberScore(2, 1.0, 0.0, None),), 2).to_json()["highest_silhouette"] is None


def test_errors() -> None:
    with pytest.raises(InputError, match="10 vectors leave subsets of 8, too few for 9 clusters"):
        choose_num_clusters(np.zeros((10, 2)), [2, 9], PROTOCOL, seed=0)
    with pytest.raises(InputError, match=r"\[1, 2\] must be 2 or more"):
        choose_num_clusters(np.zeros((10, 2)), [1, 2], PROTOCOL, seed=0)
