"""Nearest neighbours by the cosine of centred vectors, against a plain loop."""

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation import neighbours
from densessl.evaluation.neighbours import nearest_neighbours


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
