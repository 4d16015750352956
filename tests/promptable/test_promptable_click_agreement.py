"""How well a model gives masks back: clicks inside them, and the mean IoU with its answers."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import ArrayLike

from densessl.promptable.click_agreement import click_agreement, inner_points
from densessl.promptable.predictor import Predictor


class Halves:
    """Answers each click with the half of a 20 x 40 image that it lies in."""

    def predict(self, points: ArrayLike, labels: ArrayLike, select: str) -> SimpleNamespace:
        clicks = np.asarray(points)
        assert clicks.shape[1:] == (1, 2)
        assert (np.asarray(labels) == 1).all()
        assert select == "best"
        masks = np.zeros((len(clicks), 1, 20, 40), dtype=np.bool_)
        for mask, (x, _) in zip(masks[:, 0], clicks[:, 0], strict=True):
            mask[:, :20] = x < 20
            mask[:, 20:] = x >= 20
        return SimpleNamespace(masks=masks)


def test_a_mask_of_two_objects_agrees_with_neither() -> None:
    left, both = np.zeros((2, 20, 40), dtype=np.bool_)
    left[:, :20] = True
    both[:] = True
    quarter = left & (np.arange(20) < 10)[:, None]
    generator = np.random.default_rng(0)
    found = [click_agreement(cast(Predictor, Halves()), mask, 8, generator) for mask in (left, both, quarter)]
    assert found == pytest.approx([1, 0.5, 0.5])


def test_clicks_lie_inside_and_not_at_the_edge() -> None:
    mask = np.zeros((30, 50), dtype=np.bool_)
    mask[5:26, 10:41] = True  # its deepest pixels are 11 from the next outside
    points = inner_points(mask, 500, np.random.default_rng(0))
    x, y = points.T
    assert (x.min(), x.max(), y.min(), y.max()) == (13, 37, 8, 22)
    single = np.zeros((4, 4), dtype=np.bool_)
    single[2, 1] = True
    assert inner_points(single, 3, np.random.default_rng(0)).tolist() == [[1, 2]] * 3
