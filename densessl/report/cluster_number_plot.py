"""Stability and silhouette over the number of clusters, and the number that was chosen, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from densessl.files import write_atomically

DPI = 150
STABILITY_COLOUR, SILHOUETTE_COLOUR = "#1f5fa8", "#b5651d"


def write_cluster_number_plot(
    path: Path,
    numbers: Sequence[int],
    stability: Sequence[float],
    stability_std: Sequence[float],
    silhouette: Sequence[float | None],
    chosen: int,
) -> None:
    """Write the curves as PNG: stability with its spread, silhouette (with gaps where it is undefined), the choice.

    Raises `InputError` where the folder cannot be written.
    """
    figure = draw_cluster_numbers(numbers, stability, stability_std, silhouette, chosen)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def draw_cluster_numbers(
    numbers: Sequence[int],
    stability: Sequence[float],
    stability_std: Sequence[float],
    silhouette: Sequence[float | None],
    chosen: int,
) -> Figure:
    """Return the figure of `write_cluster_number_plot`."""
    figure = Figure(figsize=(7, 4), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    middle, spread = np.array(stability), np.array(stability_std)
    axes.fill_between(numbers, middle - spread, middle + spread, color=STABILITY_COLOUR, alpha=0.15, linewidth=0)
    axes.plot(numbers, middle, "o-", color=STABILITY_COLOUR, markersize=4, label="stability (mean ARI of subsets)")
    values = np.array([np.nan if value is None else value for value in silhouette])
    axes.plot(numbers, values, "s--", color=SILHOUETTE_COLOUR, markersize=4, label="silhouette")
    axes.axvline(chosen, color="#555555", linewidth=1, linestyle=":")
    axes.set_title(f"{chosen} clusters chosen, no label used", fontsize=10)
    axes.set_xlabel("number of clusters")
    axes.set_ylim(top=1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e3e6e9", linewidth=0.5)
    axes.legend(fontsize=8)
    return figure
