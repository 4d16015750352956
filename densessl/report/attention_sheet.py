"""The contact sheet of one image: everything that is drawn of it, with a scale of colours below."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from densessl.report.attention_pictures import (
    MAP_COLOURS,
    ScalarT,
    colours_picture,
    heads_picture,
    map_picture,
    spread,
    spread_colours,
    with_point,
)
from densessl.report.overlays import spotlight
from densessl.structures import ImageArray

DPI = 100
COLUMNS = 5
PANEL_INCHES = 2.4
"""Longer side of a panel."""
NARROWEST_INCHES = 1.9
"""What the titles need."""

Grid = NDArray[np.float32]  # (height, width) in cells


@dataclass(frozen=True)
class AttentionLook:
    """Attention of [CLS]: maps (heads, height, width); masks bool, of the same shape, the cells kept of each head.

    mean, mean_mask: of all heads. rollout: (height, width) in cells. mass: the share that the masks keep.
    """

    maps: NDArray[np.float32]
    masks: NDArray[np.bool_]
    mean: Grid
    mean_mask: NDArray[np.bool_]
    rollout: Grid
    mass: float


@dataclass(frozen=True)
class MatchLook:
    """Another image: cosine of its cells to the query's, and the point (x, y), in its pixels, that is most similar."""

    photo: ImageArray
    covered: tuple[float, float]
    similarity: Grid
    best: tuple[float, float]


@dataclass(frozen=True)
class QueryLook:
    """A chosen point (x, y), in pixels of the photograph, the cosine of all cells to its own, and another image."""

    point: tuple[float, float]
    similarity: Grid
    match: MatchLook | None


@dataclass(frozen=True)
class ResolutionLook:
    """The image at another resolution: its long side, the distance of half difference, both pixels, and its colours.

    distance_px is in pixels of the photograph as it is stored; NaN where there is none. covered is as in `Look`.
    """

    size_px: int
    distance_px: float
    rgb: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    covered: tuple[float, float]


@dataclass(frozen=True)
class Look:
    """What is drawn of one image.

    photo: uint8 RGB at the size of the panels. covered: (height, width) in its pixels that the grids cover; they may
    stick out. rgb, foreground: principal components, (height, width, 3) in [0, 1] and (height, width), in cells.
    attention: None for encoders that have none; then energy, the length of the features, (height, width), is drawn.
    """

    stem: str
    photo: ImageArray
    covered: tuple[float, float]
    rgb: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    energy: Grid
    attention: AttentionLook | None = None
    query: QueryLook | None = None
    resolutions: tuple[ResolutionLook, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet: a short name, for a file, a title, and the picture."""

    name: str
    title: str
    picture: ImageArray


def panels_of(look: Look) -> list[Panel]:
    """Draw everything that there is of an image, in the order of the sheet."""
    panels = [Panel("photo", "photograph\n", look.photo)]
    if look.attention is not None:
        panels += _attention_panels(look, look.attention)
    else:
        panels.append(Panel("energy", f"feature energy\n{_range(look.energy)}", map_picture(_shown(look.energy, look))))
    shown = (look.photo.shape[0], look.photo.shape[1])
    rgb = colours_picture(spread_colours(look.rgb, look.covered, shown), _shown(look.foreground, look))
    panels.append(Panel("components", "principal components\none basis for all images", rgb))
    if look.query is not None:
        panels += _query_panels(look, look.query)
    for item in look.resolutions:
        rgb_there = spread_colours(item.rgb, item.covered, shown)
        drawn = colours_picture(rgb_there, spread(item.foreground, item.covered, shown))
        distance = "-" if np.isnan(item.distance_px) else f"{item.distance_px:.0f} px"
        panels.append(Panel(f"at_{item.size_px}", f"components at {item.size_px} px\nhalf distance {distance}", drawn))
    if look.attention is not None:
        panels += [
            Panel(f"head_{number}", f"head {number}\n{_range(head)}", map_picture(_shown(head, look)))
            for number, head in enumerate(look.attention.maps)
        ]
    return panels


def draw_sheet(look: Look) -> ImageArray:
    """Draw the contact sheet of an image, uint8 RGB."""
    panels = panels_of(look)
    num_columns = min(COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    height, width = look.photo.shape[:2]
    panel = (PANEL_INCHES * height / max(height, width), PANEL_INCHES * width / max(height, width))
    size = (num_columns * max(panel[1], NARROWEST_INCHES), num_rows * (panel[0] + 0.4) + 0.9)
    canvas = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    canvas.suptitle(_short(look.stem), fontsize=10, x=0.01, ha="left")
    axes = list(np.ravel(canvas.subplots(num_rows, num_columns, squeeze=False)))
    for axis in axes:
        axis.set_axis_off()
    for axis, item in zip(axes, panels, strict=False):
        axis.imshow(item.picture, interpolation="nearest")
        axis.set_title(item.title, fontsize=8, pad=3)
        axis.set_anchor("N")
    scale = ScalarMappable(cmap=colormaps[MAP_COLOURS])
    bar = canvas.colorbar(
        scale, ax=axes, location="bottom", fraction=0.04, shrink=0.4, aspect=40, pad=0.01, panchor=False
    )
    bar.set_ticks([0, 1], labels=["lowest of the map", "highest"])
    bar.ax.tick_params(labelsize=8)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def _attention_panels(look: Look, attention: AttentionLook) -> list[Panel]:
    maps = np.stack([_shown(head, look) for head in attention.maps])
    masks = np.stack([_shown(mask, look) for mask in attention.masks])
    kept = f"{attention.mass:.0%} of the attention"
    return [
        Panel("mean", f"mean of the heads\n{_range(attention.mean)}", map_picture(_shown(attention.mean, look))),
        Panel(
            "mask",
            f"{kept}\nmean of the heads",
            spotlight(look.photo, _shown(attention.mean_mask, look).astype(np.bool_)),
        ),
        Panel("rollout", f"rollout\n{_range(attention.rollout)}", map_picture(_shown(attention.rollout, look))),
        Panel("heads", f"{kept}\neach head in its colour", heads_picture(look.photo, maps, masks.astype(np.bool_))),
    ]


def _query_panels(look: Look, query: QueryLook) -> list[Panel]:
    low = float(query.similarity.min())
    if query.match is not None:
        low = min(low, float(query.match.similarity.min()))
    own = map_picture(_shown(query.similarity, look), low, 1)
    title = f"cosine to the ringed patch\n{low:.2f} to 1"
    panels = [
        Panel("query", "chosen patch\n", with_point(look.photo, query.point)),
        Panel("similarity", title, with_point(own, query.point)),
    ]
    if query.match is not None:
        match = query.match
        size = (match.photo.shape[0], match.photo.shape[1])
        drawn = map_picture(spread(match.similarity, match.covered, size), low, 1)
        best = float(match.similarity.max())
        panels += [
            Panel("match", f"most similar there\ncosine {best:.2f}", with_point(match.photo, match.best)),
            Panel("match_similarity", f"cosine to the chosen patch\n{low:.2f} to 1", with_point(drawn, match.best)),
        ]
    return panels


def _shown(values: NDArray[ScalarT], look: Look) -> NDArray[ScalarT]:
    return spread(values, look.covered, (look.photo.shape[0], look.photo.shape[1]))


def _range(values: Grid) -> str:
    return f"{float(values.min()):.2g} to {float(values.max()):.2g}"


def _short(stem: str, longest: int = 90) -> str:
    return stem if len(stem) <= longest else "…" + stem[-longest + 1 :]
