"""The confusion matrix as a picture: which class the pixels of each labelled class went to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from densessl.files import write_atomically

DPI = 150
CELL_INCHES = 0.38
MARGIN_INCHES = (1.7, 2.8)
"""Height and width beyond the cells, for names, title and colour bar."""
COLOURS = "Blues"
"""Darkens evenly with the share, so it can be read in black and white."""
NO_VALUE_COLOUR = "#c8ccd0"
DARK = 0.65
"""Cells of a larger share are written on in white."""
LEAST_WRITTEN = 0.005
"""Shares that round to 0 % stay blank, so that the others stand out."""
LONGEST_NAME = 22
NO_CLASS = "no class"
NO_PIXELS = "no labelled pixels"


def write_confusion_plot(path: Path, confusion: NDArray[np.integer], names: Sequence[str], title: str) -> None:
    """Write the confusion matrix as PNG, each row divided by its sum, shares in percent.

    `confusion` is (num_classes, num_classes) pixel counts, labels in rows, predictions in columns, or has one more
    column for pixels predicted as none of the classes; `names` has num_classes. A row without pixels is grey and
    says so. Raises `InputError` where the folder cannot be written.
    """
    figure = draw_confusion(confusion, names, title)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def draw_confusion(confusion: NDArray[np.integer], names: Sequence[str], title: str) -> Figure:
    """Return the figure of `write_confusion_plot`."""
    num_rows, num_columns = confusion.shape
    sums = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, sums, out=np.full(confusion.shape, np.nan), where=sums > 0)
    rows = [_shortened(name) for name in names]
    columns = rows + [NO_CLASS] * (num_columns - num_rows)
    height = max(3.5, CELL_INCHES * num_rows + MARGIN_INCHES[0])
    width = max(5.0, CELL_INCHES * num_columns + MARGIN_INCHES[1])
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = colormaps[COLOURS].with_extremes(bad=NO_VALUE_COLOUR)
    picture = axes.imshow(np.ma.masked_invalid(shares), cmap=colours, vmin=0.0, vmax=1.0)
    axes.set_xticks(range(num_columns), columns, rotation=90, fontsize=8)
    axes.set_yticks(range(num_rows), rows, fontsize=8)
    axes.set_xticks(np.arange(num_columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(num_rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e3e6e9", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted as")
    axes.set_ylabel("labelled")
    axes.set_title(title, fontsize=9)
    for row, column in np.argwhere(shares >= LEAST_WRITTEN):
        share = shares[row, column]
        ink = "white" if share > DARK else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=ink)
    for row in np.flatnonzero(sums[:, 0] == 0).tolist():
        axes.text((num_columns - 1) / 2, row, NO_PIXELS, ha="center", va="center", fontsize=7)
    bar = figure.colorbar(picture, ax=axes, fraction=0.04, pad=0.02, format=PercentFormatter(1.0, 0))
    bar.set_label("share of the labelled pixels of the row", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\u2026"
