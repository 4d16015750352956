"""How many clusters there are, judged without labels: stability under subsampling, and silhouette."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from densessl.errors import InputError
from densessl.evaluation.clustering import Clustering, cluster_prototypes, silhouette
from densessl.evaluation.protocols import ClusterProtocol

NUM_SUBSETS = 6
SUBSET_SHARE = 0.8
MOST_STARTS = 10
"""Starts of each clustering here; the protocol's own where it has fewer."""
WITHIN = 0.02
RULE = (
    f"the largest number of clusters whose stability is within {WITHIN} of the highest; stability is the mean adjusted "
    f"Rand index of clusterings of {NUM_SUBSETS} random subsets of {SUBSET_SHARE:.0%} of the vectors, each pair "
    "compared on the vectors that both hold"
)


@dataclass(frozen=True)
class NumberScore:
    """What a number of clusters is worth: stability, its spread over pairs of subsets, and silhouette, if defined."""

    num_clusters: int
    stability: float
    stability_std: float
    silhouette: float | None


@dataclass(frozen=True)
class NumberChoice:
    """The numbers of clusters that were tried, in order, and the one that the rule chooses."""

    scores: tuple[NumberScore, ...]
    chosen: int
    rule: str = RULE

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        silhouettes = [score for score in self.scores if score.silhouette is not None]
        highest = max(silhouettes, key=lambda score: score.silhouette or 0.0, default=None)
        return {
            "chosen": self.chosen,
            "rule": self.rule,
            "labels_used": "none",
            "highest_silhouette": None if highest is None else highest.num_clusters,
            "scores": [vars(score) for score in self.scores],
        }


def choose_num_clusters(
    vectors: NDArray[np.floating], numbers: Sequence[int], protocol: ClusterProtocol, seed: int
) -> NumberChoice:
    """Cluster vectors (num_vectors, dim) into each of `numbers` clusters, and choose one of them by `RULE`; no labels.

    Stability under subsampling follows Ben-Hur, Elisseeff and Guyon (PSB 2002), with the adjusted Rand index as the
    similarity, since it is corrected for chance; the silhouette (Rousseeuw 1987) of the clustering of all vectors is
    there to look at, not to decide. Each number costs `NUM_SUBSETS` + 1 clusterings, of at most `MOST_STARTS` starts.

    Raises `InputError` for numbers below 2, and for subsets of fewer vectors than clusters.
    """
    how = replace(protocol, num_initialisations=min(protocol.num_initialisations, MOST_STARTS))
    subsets = _subsets(len(vectors), numbers, seed)
    scores = tuple(_score(vectors, number, how, subsets, seed) for number in numbers)
    best = max(score.stability for score in scores)
    chosen = max(score.num_clusters for score in scores if score.stability >= best - WITHIN)
    return NumberChoice(scores, chosen)


def _subsets(num_vectors: int, numbers: Sequence[int], seed: int) -> list[NDArray[np.int64]]:
    if not numbers or min(numbers) < 2:
        raise InputError(f"numbers of clusters {list(numbers)} must be 2 or more, and at least one must be tried")
    size = int(SUBSET_SHARE * num_vectors)
    if size < max(numbers):
        raise InputError(
            f"{num_vectors} vectors leave subsets of {size}, too few for {max(numbers)} clusters; try at most {size}, "
            "or add images"
        )
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(num_vectors, size, replace=False)) for _ in range(NUM_SUBSETS)]


def _score(
    vectors: NDArray[np.floating],
    number: int,
    protocol: ClusterProtocol,
    subsets: list[NDArray[np.int64]],
    seed: int,
) -> NumberScore:
    found = [cluster_prototypes(vectors[rows], number, protocol, seed + i) for i, rows in enumerate(subsets)]
    pairs = combinations(zip(subsets, found, strict=True), 2)
    agreements = [_agreement(*one, *other) for one, other in pairs]
    whole = cluster_prototypes(vectors, number, protocol, seed)
    return NumberScore(
        number, float(np.mean(agreements)), float(np.std(agreements)), silhouette(vectors, whole, seed=seed)
    )


def _agreement(rows: NDArray[np.int64], found: Clustering, other_rows: NDArray[np.int64], other: Clustering) -> float:
    """Return the adjusted Rand index of two clusterings on the vectors that both were given."""
    _, own, theirs = np.intersect1d(rows, other_rows, assume_unique=True, return_indices=True)
    return float(adjusted_rand_score(found.assignments[own], other.assignments[theirs]))
