"""Axes, thinning, number formats, curves and the heat map."""

import numpy as np
import pytest

from densessl.report.charts import heat_map, line_chart, make_axis, number, row_shares, score_bar, thin
from densessl.report.contents import Curve
from densessl.report.curve_section import group_curves


def test_axis_has_round_ticks_that_cover_the_range() -> None:
    axis = make_axis(0.13, 5.2, 5)
    assert axis.ticks == (0, 2, 4, 6)
    assert make_axis(-0.4, 0.9, 4).ticks == pytest.approx((-0.5, 0, 0.5, 1.0))
    assert axis.place(3, 100, 0) == 50


@pytest.mark.parametrize("value", [0.0, 3.0, -2.5, 1e-9])
def test_axis_of_a_constant_is_not_empty(value: float) -> None:
    axis = make_axis(value, value)
    assert axis.low <= value <= axis.high
    assert axis.low < axis.high


def test_thin_averages_neighbours() -> None:
    curve = Curve("loss", tuple(map(float, range(6))), (1.0, 3.0, 5.0, 7.0, 2.0, 4.0))
    assert thin(curve, 3) == Curve("loss", (0.5, 2.5, 4.5), (2.0, 6.0, 3.0))
    assert thin(curve, 6) is curve


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.004, "0.004"),
        (1234, "1,234"),
        (0.12345, "0.1235"),
        (1.5e-7, "1.5e-7"),
        (2e9, "2e9"),
        (-0.5, "-0.5"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_row_shares_by_hand() -> None:
    np.testing.assert_allclose(row_shares(np.array([[3.0, 1.0], [0.0, 0.0]])), [[0.75, 0.25], [0, 0]])


def test_heat_map_names_both_axes_and_marks_zero() -> None:
    table = heat_map(np.array([[0.75, 0.25], [0.0, 1.0]]), ["cat", "dog"], ["cat", "dog"])
    assert "--share:0.750" in table
    assert 'title="cat → dog: 25 %"' in table
    assert "·" in table


def test_line_chart_has_axes_legend_and_summary() -> None:
    curves = [Curve("loss", (0, 10, 20), (3, 2, 1)), Curve("saliency_loss", (0, 10, 20), (1, 0.5, 0.25))]
    chart = line_chart(curves, "Loss")
    assert chart.count("<polyline") == 2
    assert "saliency loss goes from 1 to 0.25" in chart
    assert ">step</text>" in chart
    assert "<b>0.25</b>" in chart


def test_line_chart_of_one_point_and_places_by_hand() -> None:
    assert '<circle class="dot s0"' in line_chart([Curve("loss", (5,), (1.0,))], "Loss")
    chart = line_chart([Curve("loss", (0, 10), (0, 1))], "Loss")
    assert 'points="52.0,190.0 388.0,12.0"' in chart


def test_score_bar_lengths() -> None:
    assert "width:25.0%" in score_bar(0.25, 0.5)
    assert "left:50.0%" in score_bar(0.25, 0.5)
    assert "bar-fill" not in score_bar(None, None)


def test_curves_are_grouped_and_the_rest_stand_alone() -> None:
    names = ("saliency_loss", "grad_norm", "loss", "effective_rank")
    panels = group_curves([Curve(name, (0, 1), (1, 2)) for name in names])
    assert [(title, [curve.name for curve in curves]) for title, curves in panels] == [
        ("Loss", ["loss", "saliency_loss"]),
        ("Effective rank of the embedding", ["effective_rank"]),
        ("Grad norm", ["grad_norm"]),
    ]
