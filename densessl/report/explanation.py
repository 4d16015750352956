"""What the loss sees of one image: figures as PNG, a small page around them, and the numbers as JSON."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from densessl.files import make_folder, write_bytes, write_json, write_text
from densessl.report.markup import figure, image, section
from densessl.report.overlays import plain_photo, spotlight
from densessl.report.page_head import PageOpening, plain_page
from densessl.report.thumbnails import data_uri, resize_map, resize_photo, thumbnail_size
from densessl.structures import ImageArray, InstanceMap, MaskArray

DPI = 130
PANEL_INCHES = 3.6
SIMILARITY_COLOURS, LOSS_COLOURS = "cividis", "inferno"
"""Both rise evenly in brightness, for every reader and in black and white."""
NO_VALUE_COLOUR = "#c8ccd0"
NEGATIVE_COLUMNS = 4
NEGATIVE_PX = 320
VIEW_PX = 448
"""Views and masks are enlarged to about this size before they are outlined, so that the outline stays thin."""
LONGEST_NAME = 26


@dataclass(frozen=True)
class SimilarMask:
    """A mask of another training image, and the cosine of its prototype to that of the explained mask."""

    stem: str
    number: int
    similarity: float
    photo: ImageArray | None
    mask: MaskArray


@dataclass(frozen=True)
class Explanation:
    """What the loss sees of one image at the end of a run.

    query, key: the two views. query_masks, key_masks: their instance maps, at the size of the views. similarity: (h, w)
    in [-1, 1], of each pixel of the query view to its own mask's prototype in the key view; background pixels to the
    most similar one. loss: (h, w) nats, NaN where a pixel is no part of the loss. chance: nats, the loss of a pixel
    that is equally similar to everything. similar: masks of other images, the most similar first. facts: what the page
    lists. notes: sentences. numbers: what the JSON file holds.
    """

    title: str
    query: ImageArray
    key: ImageArray
    query_masks: InstanceMap
    key_masks: InstanceMap
    similarity: NDArray[np.float32]
    loss: NDArray[np.float32]
    chance: float
    similar: tuple[SimilarMask, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    numbers: Mapping[str, Any]


def write_explanation(explanation: Explanation, out: Path) -> Path:
    """Write `views.png`, `similarity.png`, `loss.png`, `negatives.png`, `explanation.json` and `index.html` to `out`.

    Returns:
        The path of the page. Raises `InputError` where the folder cannot be written.
    """
    make_folder(out)
    parts = (
        ("views", "The two views", draw_views(explanation), _VIEWS_CAPTION),
        ("similarity", "The positive", draw_similarity(explanation), _SIMILARITY_CAPTION),
        ("loss", "The loss", draw_loss(explanation), _LOSS_CAPTION),
        ("negatives", "The hardest negatives", draw_negatives(explanation), _NEGATIVES_CAPTION),
    )
    shown = [(name, heading, picture, caption) for name, heading, picture, caption in parts if picture is not None]
    sections = []
    for name, heading, picture, caption in shown:
        write_bytes(out / f"{name}.png", _png(picture))
        size = (picture.shape[0] * 2 // 3, picture.shape[1] * 2 // 3)
        drawn = figure(image(data_uri(picture), heading, size), caption)
        sections.append(section(name, heading, drawn))
    write_json(out / "explanation.json", dict(explanation.numbers))
    lead = "What the loss sees of one image at the end of a run."
    opening = PageOpening("explain", explanation.title, lead, explanation.notes, explanation.facts, "Numbers")
    write_text(out / "index.html", plain_page(opening, sections))
    return out / "index.html"


_VIEWS_CAPTION = (
    "Both views were drawn as in training. Colour and the amber outline mark the masks; grey is background."
)
_SIMILARITY_CAPTION = (
    "Cosine of each pixel of the query view to the prototype of its own mask in the key view, which the loss pulls it "
    "to; background pixels to the most similar prototype, which the loss leaves alone. Squares are cells of the "
    "network's feature grid, the line is the outline of the mask."
)
_LOSS_CAPTION = (
    "Loss of each pixel of the mask against the memory bank of the run; grey pixels are no part of it. The mark on the "
    "scale is chance: the loss of a pixel that is equally similar to everything."
)
_NEGATIVES_CAPTION = (
    "The memory bank holds vectors without pictures, so these are the masks of other training images whose prototypes "
    "are most similar to that of the explained mask. Those that show the same thing are false negatives."
)


def draw_views(explanation: Explanation) -> ImageArray:
    """Draw the query view and the key view side by side, with their masks."""
    canvas, axes = _canvas(2)
    views = ((explanation.query, explanation.query_masks), (explanation.key, explanation.key_masks))
    for axis, name, (photo, masks) in zip(axes, ("query view", "key view"), views, strict=True):
        axis.imshow(_outlined(photo, masks))
        axis.set_title(f"{name}, {(masks > 0).mean():.0%} foreground")
    return _rendered(canvas)


def draw_similarity(explanation: Explanation) -> ImageArray:
    """Draw the query view beside the map of its similarity to the positive, with a colour bar."""
    similarity = explanation.similarity
    limits = float(np.floor(10 * similarity.min()) / 10), float(np.ceil(10 * similarity.max()) / 10)
    label = "cosine to the mask's prototype in the key view"
    return _draw_map(explanation, similarity, SIMILARITY_COLOURS, limits, label, "similarity to the positive")


def draw_loss(explanation: Explanation) -> ImageArray | None:
    """Draw the query view beside the loss of its pixels, with a colour bar; `None` where no pixel has a loss."""
    if not np.isfinite(explanation.loss).any():
        return None
    lowest = float(np.floor(np.nanmin(explanation.loss)))
    highest = max(float(np.nanmax(explanation.loss)), explanation.chance) + 0.1
    mean = float(np.nanmean(explanation.loss))
    title, label = f"loss, mean {mean:.2f}", "loss in nats"
    return _draw_map(
        explanation, explanation.loss, LOSS_COLOURS, (lowest, highest), label, title, mark=explanation.chance
    )


def draw_negatives(explanation: Explanation) -> ImageArray | None:
    """Draw the most similar masks of other images with their similarities; `None` where there are none."""
    similar = explanation.similar
    if not similar:
        return None
    num_rows = -(-len(similar) // NEGATIVE_COLUMNS)
    canvas, axes = _canvas(NEGATIVE_COLUMNS, num_rows, height=0.86, width=0.8)
    for axis in axes[len(similar) :]:
        axis.set_visible(False)
    for rank, (axis, item) in enumerate(zip(axes, similar, strict=False), 1):
        size = thumbnail_size((item.mask.shape[0], item.mask.shape[1]), NEGATIVE_PX)
        photo = plain_photo(size) if item.photo is None else resize_photo(item.photo, size)
        axis.imshow(spotlight(photo, resize_map(item.mask, size).astype(bool)))
        axis.set_anchor("N")
        axis.set_title(f"{rank}. cosine {item.similarity:.3f}")
        axis.set_xlabel(_short(item.stem), fontsize=9)
    return _rendered(canvas)


def _draw_map(
    explanation: Explanation,
    values: NDArray[np.float32],
    colours: str,
    limits: tuple[float, float],
    label: str,
    title: str,
    mark: float | None = None,
) -> ImageArray:
    canvas, axes = _canvas(2, width=1.12)
    height, width = explanation.query.shape[:2]
    axes[0].imshow(_outlined(explanation.query, explanation.query_masks))
    axes[0].set_title("query view")
    colour_map = colormaps[colours].with_extremes(bad=NO_VALUE_COLOUR)
    shown = axes[1].imshow(
        values, cmap=colour_map, vmin=limits[0], vmax=limits[1], extent=(0, width, height, 0), interpolation="nearest"
    )
    _outline(axes[1], explanation.query_masks > 0)
    axes[1].set_title(title)
    bar = canvas.colorbar(shown, ax=axes[1], fraction=0.046, pad=0.03)
    bar.set_label(label)
    if mark is not None:
        bar.ax.axhline(mark, color="white", linewidth=3.5)
        bar.ax.axhline(mark, color="black", linewidth=1.5)
        bar.ax.text(-0.15, mark, "chance", ha="right", va="center", fontsize=9, transform=bar.ax.get_yaxis_transform())
    return _rendered(canvas)


def _outlined(view: ImageArray, masks: InstanceMap) -> ImageArray:
    scale = max(1, VIEW_PX // view.shape[0])
    size = (view.shape[0] * scale, view.shape[1] * scale)
    return spotlight(resize_photo(view, size), resize_map(masks, size).astype(np.int64) > 0)


def _outline(axis: Axes, mask: MaskArray) -> None:
    if mask.all() or not mask.any():
        return
    columns, rows = (np.arange(length) + 0.5 for length in (mask.shape[1], mask.shape[0]))
    for colour, width in (("black", 2.6), ("white", 1.2)):
        axis.contour(columns, rows, mask, [0.5], colors=colour, linewidths=width)


def _canvas(
    num_columns: int, num_rows: int = 1, *, height: float = 1.0, width: float = 1.0
) -> tuple[Figure, list[Axes]]:
    size = (PANEL_INCHES * num_columns * width, PANEL_INCHES * num_rows * height)
    canvas = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    axes = list(np.ravel(canvas.subplots(num_rows, num_columns, squeeze=False)))
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return canvas, axes


def _rendered(canvas: Figure) -> ImageArray:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def _png(picture: ImageArray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else "…" + name[-LONGEST_NAME + 1 :]
