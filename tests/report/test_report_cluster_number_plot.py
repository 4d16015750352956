"""The plot over numbers of clusters: curves, gaps, the chosen number."""

from pathlib import Path

import numpy as np
from PIL import Image

from densessl.report.cluster_number_plot import draw_cluster_numbers, write_cluster_number_plot

CURVES = ([2, 3, 4], [0.9, 1.0, 0.4], [0.05, 0.0, 0.1], [0.3, None, 0.2], 3)


def test_curves_and_choice() -> None:
    axes = draw_cluster_numbers(*CURVES).axes[0]
    stability, silhouette, chosen = axes.get_lines()
    assert np.asarray(stability.get_ydata()).tolist() == [0.9, 1.0, 0.4]
    assert np.isnan(np.asarray(silhouette.get_ydata(), dtype=float)).tolist() == [False, True, False]
    assert list(chosen.get_xdata()) == [3, 3]
    assert "3 clusters chosen" in axes.get_title()


def test_writes_png(tmp_path: Path) -> None:
    write_cluster_number_plot(tmp_path / "plot.png", *CURVES)
    assert Image.open(tmp_path / "plot.png").format == "PNG"
