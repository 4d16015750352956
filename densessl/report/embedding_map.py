"""The map of an embedding space: masks in the plane, as thumbnails where these hide no other, and as marks."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from densessl.report.cluster_marks import INK, Colour, cluster_colour, cluster_mark
from densessl.report.mask_crops import FRAME_PX, framed
from densessl.structures import ImageArray

THUMBNAIL_PX = 84
"""Long side of a thumbnail."""
MAX_THUMBNAILS = 150
DPI = 100
WIDTH_PX, HEIGHT_PX = 1400, 1100
LEAST_PX = (900, 500)
"""Width and height of the area of the map at least; in between they follow the places."""

_BORDER_PX = 74  # half a thumbnail, its frame, the names of the axes, and some air
_GAP_PX = 5
_ROW_PX = 26
_LONGEST_NAME = 28
_SMALL, _LARGE = 42.0, 90.0  # area of a mark in square points


@dataclass(frozen=True)
class MaskMap:
    """Masks in the plane.

    places: (num, 2), `(x, y)`, y upwards. clusters: (num,), from 0. names: of clusters. medoids: by cluster, its row.
    sizes: (height, width) of the thumbnail of each mask. axes: what x and y are, where they are anything.
    """

    places: NDArray[np.float32]
    clusters: NDArray[np.int64]
    names: Mapping[int, str]
    medoids: Mapping[int, int]
    sizes: Sequence[tuple[int, int]]
    axes: tuple[str, str] | None


@dataclass(frozen=True)
class MapLayout:
    """Where things go, in pixels: size (height, width) of the area, `(x, y)` of each mask; rows that are thumbnails."""

    size: tuple[int, int]
    places_px: NDArray[np.float64]
    thumbnails: tuple[int, ...]


def lay_out(masks: MaskMap, seed: int = 0) -> MapLayout:
    """Place masks on the area, both axes to one scale, and choose the thumbnails: none touches another.

    The medoid of each cluster comes first, the others in an order drawn with `seed`; what would overlap is left out.
    """
    low, high = masks.places.min(axis=0), masks.places.max(axis=0)
    span = np.maximum((high - low).astype(np.float64), 1e-12)
    room = np.array([WIDTH_PX, HEIGHT_PX], dtype=np.float64) - 2 * _BORDER_PX
    scale = float((room / span).min())
    width, height = np.clip(span * scale + 2 * _BORDER_PX, LEAST_PX, (WIDTH_PX, HEIGHT_PX)).astype(int).tolist()
    centred = (masks.places - (low + high) / 2) * scale
    places = np.stack([width / 2 + centred[:, 0], height / 2 - centred[:, 1]], axis=1)
    medoids = list(masks.medoids.values())
    others = np.random.default_rng(seed).permutation(len(places))
    order = [*medoids, *(row for row in others.tolist() if row not in set(medoids))]
    return MapLayout((height, width), places, _apart(places, masks.sizes, order))


def draw_map(masks: MaskMap, layout: MapLayout, thumbnails: Mapping[int, ImageArray]) -> ImageArray:
    """Draw the map, uint8 RGB: thumbnails of the layout, in the frame and with the number of their cluster, else marks.

    thumbnails: by row. A mark whose middle lies below a thumbnail is left out (`draw_marks` shows all).
    """
    marks = _draw(masks, layout, _uncovered(masks, layout), _SMALL, numbered=False)
    canvas = Image.new("RGBA", marks.size, "white")
    for row in layout.thumbnails:
        cluster = int(masks.clusters[row])
        picture = framed(thumbnails[row], cluster_colour(cluster), cluster)
        x, y = layout.places_px[row]
        canvas.paste(Image.fromarray(picture), (round(x - picture.shape[1] / 2), round(y - picture.shape[0] / 2)))
    return np.asarray(Image.alpha_composite(canvas, marks).convert("RGB"))


def draw_marks(masks: MaskMap, layout: MapLayout) -> ImageArray:
    """Draw all masks as marks, uint8 RGB, with the number of each cluster at its medoid."""
    marks = _draw(masks, layout, np.arange(len(masks.clusters)), _LARGE, numbered=True)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", marks.size, "white"), marks).convert("RGB"))


def _uncovered(masks: MaskMap, layout: MapLayout) -> NDArray[np.int64]:
    """Return the rows whose places lie on no thumbnail."""
    is_covered = np.zeros(len(masks.clusters), dtype=np.bool_)
    for row in layout.thumbnails:
        height, width = masks.sizes[row]
        distance = np.abs(layout.places_px - layout.places_px[row])
        is_covered |= (distance[:, 0] <= width / 2 + FRAME_PX) & (distance[:, 1] <= height / 2 + FRAME_PX)
    return np.flatnonzero(~is_covered)


def _apart(places: NDArray[np.float64], sizes: Sequence[tuple[int, int]], order: Sequence[int]) -> tuple[int, ...]:
    """Return the rows whose thumbnails, taken in that order, overlap none of those before."""
    half = np.array([(width, height) for height, width in sizes]) / 2 + FRAME_PX + _GAP_PX / 2
    chosen: list[int] = []
    for row in order:
        if len(chosen) == MAX_THUMBNAILS:
            break
        apart = np.abs(places[chosen] - places[row]) >= half[chosen] + half[row]
        if apart.any(axis=1).all():
            chosen.append(row)
    return tuple(chosen)


def _draw(masks: MaskMap, layout: MapLayout, rows: NDArray[np.int64], area: float, *, numbered: bool) -> Image.Image:
    """Draw marks, axes and legend on nothing, RGBA."""
    height, width = layout.size
    present = np.unique(masks.clusters).tolist()
    names = {cluster: _entry(masks, cluster) for cluster in present}
    num_columns = max(1, min(len(present), int((width - 40) // (46 + 7.5 * max(map(len, names.values()))))))
    legend_px = _ROW_PX * -(-len(present) // num_columns) + 22
    total = height + legend_px
    figure = Figure(figsize=(width / DPI, total / DPI), dpi=DPI)
    axes = figure.add_axes((0.0, legend_px / total, 1.0, height / total), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for cluster in present:
        x, y = layout.places_px[rows[masks.clusters[rows] == cluster]].T
        axes.scatter(x, y, area, marker=cluster_mark(cluster), color=_rgb(cluster), edgecolors="black", linewidths=0.7)
    if numbered:
        _write_numbers(axes, masks, layout)
    if masks.axes is not None:
        axes.text(width / 2, height - 12, masks.axes[0], ha="center", va="bottom", fontsize=10, color="#444444")
        axes.text(12, height / 2, masks.axes[1], ha="left", va="center", rotation=90, fontsize=10, color="#444444")
    axes.plot([12, width - 12], [height - 1, height - 1], color="#c8ccd0", linewidth=1)
    _write_legend(figure, names, num_columns)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return Image.open(buffer).convert("RGBA")


def _write_legend(figure: Figure, names: Mapping[int, str], num_columns: int) -> None:
    """Write mark and name of each cluster below the map, in reading order; matplotlib fills columns, not rows."""
    clusters = list(names)
    order = [cluster for column in range(num_columns) for cluster in clusters[column::num_columns]]
    handles = [
        Line2D([], [], linestyle="", marker=cluster_mark(c), color=_rgb(c), markeredgecolor="black", markersize=9)
        for c in order
    ]
    figure.legend(
        handles,
        [names[cluster] for cluster in order],
        ncols=num_columns,
        loc="lower left",
        frameon=False,
        fontsize=10,
        borderaxespad=0.6,
        columnspacing=1.6,
        handletextpad=0.3,
    )


def _write_numbers(axes: Axes, masks: MaskMap, layout: MapLayout) -> None:
    halo = [patheffects.withStroke(linewidth=4, foreground="white")]
    for cluster, row in masks.medoids.items():
        x, y = layout.places_px[row]
        axes.annotate(
            str(cluster),
            (x, y),
            (8, 6),
            textcoords="offset points",
            fontsize=15,
            fontweight="bold",
            color=tuple(value / 255 for value in INK),
            path_effects=halo,
            zorder=5,
        )


def _entry(masks: MaskMap, cluster: int) -> str:
    name = masks.names.get(cluster, f"cluster {cluster}")
    shown = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026"
    number = f"{cluster}: " if cluster in masks.names else ""
    return f"{number}{shown} ({int((masks.clusters == cluster).sum()):,})"


def _rgb(cluster: int) -> tuple[float, float, float]:
    colour: Colour = cluster_colour(cluster)
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
