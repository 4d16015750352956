"""Names below a painted label map."""

import numpy as np

from densessl.report.legend import PAPER, with_legend
from densessl.report.overlays import painted_colour

NAMES = {0: "background", 1: "cat", 2: "dog", 3: "a name so long that it is wider than the picture"}


def test_a_swatch_for_each_value_that_is_there() -> None:
    picture = np.full((40, 300, 3), 7, np.uint8)
    label_map = np.zeros((40, 300), int)
    label_map[:, 100:] = 2
    drawn = with_legend(picture, label_map, NAMES)
    assert drawn.shape == (62, 300, 3)
    np.testing.assert_array_equal(drawn[:40], picture)
    colours = {tuple(pixel) for pixel in drawn[40:].reshape(-1, 3).tolist()}
    assert {painted_colour(0), painted_colour(2), PAPER} <= colours
    assert painted_colour(1) not in colours


def test_rows_wrap_and_only_a_long_name_widens() -> None:
    picture = np.zeros((10, 175, 3), np.uint8)
    label_map = np.arange(3)[None].repeat(10, 0)
    assert with_legend(picture, label_map, NAMES).shape == (10 + 2 * 22, 175, 3)
    wide = with_legend(picture, np.full((10, 3), 3), NAMES)
    assert wide.shape[1] > 175
    assert (wide[:10, :175] == 0).all()


def test_values_without_a_name_have_no_entry() -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    np.testing.assert_array_equal(with_legend(picture, np.full((10, 20), 9), NAMES), picture)
