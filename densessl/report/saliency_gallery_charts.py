"""Histograms of a folder of masks as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, make_axis
from densessl.report.markup import Html, element

NUM_BINS = 20
MAX_PARTS = 8


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: what it counts, in words, and how many there are."""

    name: str
    count: int


@dataclass(frozen=True)
class Tick:
    """A label on the axis, `position` bars from its left end."""

    position: float
    label: str


def share_histogram(shares: NDArray[np.float64], title: str, things: str) -> Html:
    """Return a histogram of shares in [0, 1], in percent."""
    counts, _ = np.histogram(np.clip(shares, 0, 1), NUM_BINS, (0, 1))
    step = 100 // NUM_BINS
    bars = [Bar(f"{step * index}–{step * (index + 1)} %", int(count)) for index, count in enumerate(counts)]
    ticks = [Tick(NUM_BINS * percent / 100, f"{percent} %") for percent in range(0, 101, 20)]
    low, median, high = 100 * np.quantile(shares, [0.25, 0.5, 0.75])
    return _histogram(bars, ticks, title, things, f"median {median:.0f} %, middle half {low:.0f}–{high:.0f} %")


def unit_histogram(values: NDArray[np.float64], title: str, things: str) -> Html:
    """Return a histogram of values in [0, 1] from the tenth below the smallest of them to 1."""
    start = min(int(10 * values.min() + 1e-9), 9)  # in tenths
    bins_per_tenth = max(1, NUM_BINS // (10 - start))
    num_bins = (10 - start) * bins_per_tenth
    counts, edges = np.histogram(np.clip(values, 0, 1), num_bins, (start / 10, 1))
    bars = [Bar(f"{edges[index]:.3g}–{edges[index + 1]:.3g}", int(count)) for index, count in enumerate(counts)]
    every = 1 if start >= 4 else 2
    ticks = [
        Tick((tenth - start) * bins_per_tenth, f"{tenth / 10:g}")
        for tenth in range(start, 11)
        if (10 - tenth) % every == 0
    ]
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return _histogram(bars, ticks, title, things, f"median {median:.2f}, middle half {low:.2f}–{high:.2f}")


def count_histogram(values: NDArray[np.int64], title: str, things: str) -> Html:
    """Return a histogram of counts 1, 2, ...; the last bar takes all from `MAX_PARTS` on."""
    top = int(min(max(values.max(), 3), MAX_PARTS))
    counts = np.bincount(np.clip(values, 1, top), minlength=top + 1)[1:]
    has_more = bool(values.max() > top)
    names = [*map(str, range(1, top)), f"{top} and more" if has_more else str(top)]
    bars = [Bar(name, int(count)) for name, count in zip(names, counts, strict=True)]
    ticks = [Tick(index + 0.5, str(index + 1)) for index in range(top)]
    ticks[-1] = Tick(top - 0.5, f"{top}+" if has_more else str(top))
    single = 100 * float((values <= 1).mean())
    return _histogram(bars, ticks, title, things, f"{single:.0f} % have one part; at most {int(values.max())}")


def _histogram(bars: Sequence[Bar], ticks: Sequence[Tick], title: str, things: str, summary: str) -> Html:
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    width = (right - left) / len(bars)
    axis = make_axis(0, max(bar.count for bar in bars), 4)
    parts: list[Html] = []
    for value in (value for value in axis.ticks if float(value).is_integer()):
        y = axis.place(value, bottom, TOP)
        ends = {"x1": str(left), "x2": str(right), "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        parts += [element("line", {"class": "grid", **ends}), _text(left - 7, y + 4, f"{value:,.0f}", "end")]
    for index, bar in enumerate(bars):
        y = axis.place(bar.count, bottom, TOP)
        shape = {"x": f"{left + index * width + 0.75:.1f}", "y": f"{y:.1f}", "width": f"{width - 1.5:.1f}"}
        what = element("title", None, f"{bar.name}: {bar.count:,} {things}")
        parts.append(element("rect", {"class": "column", **shape, "height": f"{bottom - y:.1f}"}, what))
    for tick in ticks:
        x = left + tick.position * width
        anchor = "end" if x > right - 8 else "middle"
        parts.append(_text(x, bottom + 17, tick.label, anchor))
    label = f"{title}: {summary}"
    drawing = element("svg", {"viewBox": f"0 0 {WIDTH} {bottom + 24}", "role": "img", "aria-label": label}, *parts)
    caption = element("figcaption", None, f"{things}: {summary}")
    return element("figure", {"class": "chart"}, element("h3", None, title), drawing, caption)


def _text(x: float, y: float, label: str, anchor: str) -> Html:
    return element("text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}, label)
