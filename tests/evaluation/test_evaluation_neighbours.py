"""Nearest neighbours, by the cosine of centred vectors and by the plain one, against loops."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation import neighbours
from densessl.evaluation.neighbours import most_similar, nearest_neighbours


@pytest.mark.parametrize("rows_at_once", [3, 1024])
def test_equals_the_plain_loop(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", rows_at_once)
    vectors = np.random.default_rng(0).normal(2.0, 1.0, (11, 5))
    unit = [vector / np.sqrt((vector**2).sum()) for vector in vectors]
    centred = [vector - sum(unit) / 11 for vector in unit]
    expected = []
    for i in range(11):
        cosines = {
            j: float(centred[i] @ centred[j] / np.linalg.norm(centred[i]) / np.linalg.norm(centred[j]))
            for j in range(11)
            if j != i
        }
        expected.append(sorted(cosines, key=lambda j: -cosines[j])[:4])
    assert nearest_neighbours(vectors, 4).tolist() == expected


def test_length_does_not_matter_and_a_zero_vector_is_no_error() -> None:
    vectors = np.array([[1.0, 0.1], [5.0, 0.4], [0.1, 1.0], [0.3, 2.0], [0.0, 0.0]])
    found = nearest_neighbours(vectors, 1)
    assert found[:4, 0].tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("asked", [0, 3])
def test_too_few_images(asked: int) -> None:
    with pytest.raises(InputError, match=rf"{asked} neighbours were asked for among 3 images; ask for 1 to 2"):
        nearest_neighbours(np.eye(3), asked)


def test_most_similar_masks_are_those_of_other_images() -> None:
    vectors = np.random.default_rng(1).normal(0.5, 1.0, (9, 4))
    images = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4])
    for query in range(9):
        cosines = {
            j: float(vectors[query] @ vectors[j] / np.linalg.norm(vectors[query]) / np.linalg.norm(vectors[j]))
            for j in range(9)
            if images[j] != images[query]
        }
        expected = sorted(cosines, key=lambda j: -cosines[j])
        rows, found = most_similar(vectors, query, images, 4)
        assert rows.tolist() == expected[:4]
        np.testing.assert_allclose(found, [cosines[j] for j in expected[:4]], atol=1e-6)
        assert len(most_similar(vectors, query, images, 100)[0]) == len(expected)
    assert len(most_similar(vectors, 0, np.zeros(9, np.int64), 3)[0]) == 0


@pytest.mark.parametrize(("query", "num"), [(3, 1), (-1, 1), (0, 0)])
def test_most_similar_refuses(query: int, num: int) -> None:
    with pytest.raises(InputError, match=r"row -?\d of 3 vectors|0 neighbours were asked for"):
        most_similar(np.eye(3), query, np.arange(3), num)
