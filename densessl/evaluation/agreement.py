"""How far two partitions of the same pixels agree, from their confusion matrix alone: no cluster is matched."""

import math

import numpy as np
from numpy.typing import NDArray

from densessl.evaluation.confusion import Confusion


def adjusted_rand_index(confusion: Confusion) -> float:
    """Return the Rand index of labels and predictions, corrected for chance (Hubert and Arabie 1985, equation 5).

    `ARI = (S - E) / (M - E)` with `S = sum_lp C(n_lp, 2)` the pairs of pixels that are together in both,
    `E = A B / C(n, 2)` what chance gives, `M = (A + B) / 2`, and A and B the pairs that are together in the
    labels and in the predictions.

    `confusion` is (num_labels, num_predictions) pixel counts, in any order of rows and columns; empty rows and
    columns change nothing. 1 where both partitions are the same, about 0 for chance, below 0 for less. As in
    scikit-learn, two partitions that are the same are 1 even where chance leaves nothing to gain (all pixels
    in one part).
    """
    # Exact integers: the squares of the pixel counts of a large data set do not fit into 64 bits.
    together = _pairs(confusion[confusion > 0])
    in_labels, in_predictions = _pairs(confusion.sum(axis=1)), _pairs(confusion.sum(axis=0))
    everything = math.comb(int(confusion.sum()), 2)
    if together == in_labels == in_predictions:
        return 1.0
    by_chance = in_labels * in_predictions  # times C(n, 2), as all below
    best = (in_labels + in_predictions) * everything
    return 2 * (together * everything - by_chance) / (best - 2 * by_chance)


def normalised_mutual_information(confusion: Confusion) -> float:
    """Return `NMI = I(labels; predictions) / ((H(labels) + H(predictions)) / 2)`, in [0, 1].

    I is the mutual information and H the entropy of the pixel counts (Strehl and Ghosh 2002, with the
    arithmetic mean of the entropies in place of the geometric one, as in scikit-learn). Not corrected for
    chance: many clusters raise it. 1 where both are one part (as in scikit-learn), 0 where one of them is.

    `confusion` is (num_labels, num_predictions) pixel counts, in any order of rows and columns.
    """
    shares = confusion / confusion.sum()
    of_labels, of_predictions = shares.sum(axis=1), shares.sum(axis=0)
    if np.count_nonzero(of_labels) == np.count_nonzero(of_predictions) == 1:
        return 1.0
    rows, columns = np.nonzero(shares)
    joint = shares[rows, columns]
    information = float((joint * np.log(joint / of_labels[rows] / of_predictions[columns])).sum())
    return max(information, 0.0) / ((_entropy(of_labels) + _entropy(of_predictions)) / 2)


def _pairs(counts: NDArray[np.int64]) -> int:
    return sum(math.comb(count, 2) for count in counts.ravel().tolist())


def _entropy(shares: NDArray[np.float64]) -> float:
    """Entropy in nats; shares of 0 add nothing."""
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())
