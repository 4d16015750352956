"""Charts as inline SVG and HTML: training curves, score bars, and the confusion heat map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from densessl.report.contents import Curve
from densessl.report.markup import Html, element, join

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
MAX_POINTS = 240
MAX_SERIES = 3  # colours and dash patterns that stay apart for every reader and in black and white


@dataclass(frozen=True)
class Axis:
    """A linear axis: the values at its two ends and the labelled ticks between them."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float, start: float, end: float) -> float:
        """Return the position of a value between `start` (at `low`) and `end` (at `high`)."""
        return start + (value - self.low) / (self.high - self.low) * (end - start)


def make_axis(low: float, high: float, num_ticks: int = 5) -> Axis:
    """Return an axis over [low, high] widened to round ticks of 1, 2 or 5 times a power of ten."""
    if high - low < 1e-12 * max(1.0, abs(low), abs(high)):
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / num_ticks
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(index * step for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def thin(curve: Curve, max_points: int = MAX_POINTS) -> Curve:
    """Average neighbouring log lines until at most `max_points` are left; short curves stay as they are."""
    if len(curve.values) <= max_points:
        return curve
    edges = np.linspace(0, len(curve.values), max_points + 1).astype(int)
    spans = list(pairwise(edges))
    steps = tuple(float(np.mean(curve.steps[a:b])) for a, b in spans)
    values = tuple(float(np.mean(curve.values[a:b])) for a, b in spans)
    return Curve(curve.name, steps, values)


def line_chart(curves: Sequence[Curve], title: str, x_label: str = "step") -> Html:
    """Return a figure with one line per curve (three at most), axes and a legend with the last values."""
    thinned = [thin(curve) for curve in curves[:MAX_SERIES]]
    all_steps = [step for curve in thinned for step in curve.steps]
    all_values = [value for curve in thinned for value in curve.values]
    x_axis = make_axis(min(all_steps), max(all_steps), 6)
    x_axis = Axis(min(all_steps), max(max(all_steps), min(all_steps) + 1), x_axis.ticks)
    y_axis = make_axis(min(all_values), max(all_values), 4)
    lines = [_line(curve, index, x_axis, y_axis) for index, curve in enumerate(thinned)]
    drawing = element(
        "svg",
        {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": _chart_summary(title, curves)},
        *_grid(x_axis, y_axis),
        *lines,
        _text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 4, x_label, "middle"),
    )
    return element("figure", {"class": "chart"}, element("h3", None, title), drawing, _legend(curves))


def score_bar(after: float | None, before: float | None) -> Html:
    """Return a bar of length `after` in [0, 1] with a tick where `before` stood."""
    parts: list[str] = []
    if after is not None:
        parts.append(element("span", {"class": "bar-fill", "style": f"width:{100 * after:.1f}%"}))
    if before is not None:
        parts.append(element("span", {"class": "bar-tick", "style": f"left:{100 * before:.1f}%"}))
    return element("span", {"class": "bar", "aria-hidden": "true"}, *parts)


def row_shares(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each row of a confusion matrix by its sum; rows of classes that never occur are zero."""
    totals = confusion.sum(axis=1, keepdims=True)
    return np.divide(confusion, totals, out=np.zeros_like(confusion, dtype=np.float64), where=totals > 0)


def heat_map(shares: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str]) -> Html:
    """Return a table of shares in [0, 1] shaded by value; the numbers are percent."""
    head = element(
        "tr",
        None,
        element("td", {"class": "corner"}, "label ↓  prediction →"),
        *(element("th", {"scope": "col"}, element("span", None, name)) for name in columns),
    )
    body = [
        element(
            "tr",
            None,
            element("th", {"scope": "row"}, name),
            *(_heat_cell(share, f"{name} → {column}") for share, column in zip(row, columns, strict=True)),
        )
        for name, row in zip(rows, shares, strict=True)
    ]
    density = "heat dense" if len(columns) > 14 else "heat"
    return element("table", {"class": density}, element("thead", None, head), element("tbody", None, *body))


def number(value: float) -> str:
    """Return a number in at most four significant digits, without trailing zeros or a stray exponent."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _heat_cell(share: float, what: str) -> Html:
    percent = round(100 * share)
    attributes = {"style": f"--share:{share:.3f}", "title": f"{what}: {percent} %"}
    return element("td", attributes, str(percent) if percent else element("span", {"class": "zero"}, "·"))


def _line(curve: Curve, index: int, x_axis: Axis, y_axis: Axis) -> Html:
    points = [
        (x_axis.place(step, LEFT, WIDTH - RIGHT), y_axis.place(value, HEIGHT - BOTTOM, TOP))
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    if len(points) == 1:
        x, y = points[0]
        return element("circle", {"class": f"dot s{index}", "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3"})
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", {"class": f"line s{index}", "points": path})


def _grid(x_axis: Axis, y_axis: Axis) -> list[Html]:
    parts: list[Html] = []
    for tick in y_axis.ticks:
        y = y_axis.place(tick, HEIGHT - BOTTOM, TOP)
        ends = {"x1": str(LEFT), "x2": str(WIDTH - RIGHT), "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        parts += [
            element("line", {"class": "grid", **ends}),
            _text(LEFT - 7, y + 4, number(round(tick, 12)), "end"),
        ]
    for tick in x_axis.ticks:
        if not x_axis.low <= tick <= x_axis.high:
            continue
        x = x_axis.place(tick, LEFT, WIDTH - RIGHT)
        ends = {
            "x1": f"{x:.1f}",
            "x2": f"{x:.1f}",
            "y1": str(HEIGHT - BOTTOM),
            "y2": str(HEIGHT - BOTTOM + 4),
        }
        anchor = "end" if x > WIDTH - RIGHT - 12 else "middle"
        label = _text(x, HEIGHT - BOTTOM + 17, number(round(tick, 12)), anchor)
        parts += [element("line", {"class": "tick", **ends}), label]
    return parts


def _text(x: float, y: float, label: str, anchor: str) -> Html:
    return element("text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}, label)


def _legend(curves: Sequence[Curve]) -> Html:
    entries = []
    for index, curve in enumerate(curves[:MAX_SERIES]):
        swatch = element(
            "svg",
            {"viewBox": "0 0 26 8", "class": "key", "aria-hidden": "true"},
            element("line", {"class": f"line s{index}", "x1": "1", "x2": "25", "y1": "4", "y2": "4"}),
        )
        last = element("b", None, number(curve.values[-1]))
        entries.append(element("span", None, swatch, join([curve.name.replace("_", " "), " ", last])))
    return element("figcaption", {"class": "legend"}, *entries)


def _chart_summary(title: str, curves: Sequence[Curve]) -> str:
    ends = "; ".join(
        f"{curve.name.replace('_', ' ')} goes from {number(curve.values[0])} to {number(curve.values[-1])}"
        for curve in curves[:MAX_SERIES]
    )
    return f"{title}: {ends}"
