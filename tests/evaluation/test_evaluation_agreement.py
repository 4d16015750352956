"""ARI and NMI from the confusion matrix: by hand, against scikit-learn, edge cases, counts beyond 64 bits."""

import numpy as np
import pytest
import sklearn.metrics

from densessl.evaluation.agreement import adjusted_rand_index, normalised_mutual_information
from densessl.evaluation.confusion import confusion_matrix


@pytest.mark.parametrize("seed", range(4))
def test_parity_with_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 3, 6], (4, 31, 22))  # classes 2, 4 and 5 are absent
    labels[rng.random(labels.shape) < 0.1] = 255
    predictions = np.where(rng.random(labels.shape) < 0.2 * seed, labels % 7, rng.choice([0, 2, 8, 11], labels.shape))
    confusion = confusion_matrix(labels, predictions, 7, 13)
    counted = labels != 255
    ari = sklearn.metrics.adjusted_rand_score(labels[counted], predictions[counted])
    nmi = sklearn.metrics.normalized_mutual_info_score(labels[counted], predictions[counted])
    assert adjusted_rand_index(confusion) == pytest.approx(ari, abs=1e-9)
    assert normalised_mutual_information(confusion) == pytest.approx(nmi, abs=1e-9)


def test_by_hand() -> None:
    confusion = np.array([[2, 0], [1, 1]])
    # Pairs together: 1 in both, 2 in the labels, 3 in the predictions, of 6; chance gives 2 * 3 / 6.
    assert adjusted_rand_index(confusion) == pytest.approx((1 - 1) / (2.5 - 1), abs=1e-12)
    information = 0.5 * np.log(4 / 3) + 0.25 * np.log(2 / 3) + 0.25 * np.log(2)
    entropies = np.log(2), -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    assert normalised_mutual_information(confusion) == pytest.approx(information / np.mean(entropies))


@pytest.mark.parametrize(
    ("confusion", "ari", "nmi"),
    [
        ([[0, 5, 0], [7, 0, 0]], 1.0, 1.0),  # the same parts under other names
        ([[9, 0], [0, 0]], 1.0, 1.0),  # one part in both
        ([[4, 4], [0, 0]], 0.0, 0.0),  # one label, two clusters
        ([[1]], 1.0, 1.0),  # a single pixel
        ([[4, 4], [4, 4]], -0.0714285714285714, 0.0),
    ],
)
def test_edge_cases_are_those_of_sklearn(confusion: list[list[int]], ari: float, nmi: float) -> None:
    table = np.array(confusion)
    labels = np.repeat(np.indices(table.shape)[0].ravel(), table.ravel())
    predictions = np.repeat(np.indices(table.shape)[1].ravel(), table.ravel())
    assert sklearn.metrics.adjusted_rand_score(labels, predictions) == pytest.approx(ari, abs=1e-9)
    assert sklearn.metrics.normalized_mutual_info_score(labels, predictions) == pytest.approx(nmi, abs=1e-9)
    assert adjusted_rand_index(table) == pytest.approx(ari, abs=1e-9)
    assert normalised_mutual_information(table) == pytest.approx(nmi, abs=1e-9)


def test_counts_of_a_large_data_set_do_not_overflow() -> None:
    small = np.array([[60, 20], [10, 30]])
    huge = small * 10**10
    assert adjusted_rand_index(huge) == pytest.approx(adjusted_rand_index(small * 10**6), abs=1e-6)
    assert normalised_mutual_information(huge) == pytest.approx(normalised_mutual_information(small), abs=1e-9)
