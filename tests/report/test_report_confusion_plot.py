"""The confusion plot: shares in the cells, names on both axes, rows without pixels, a column for no class."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from densessl.report.confusion_plot import COLOURS, NO_CLASS, NO_PIXELS, draw_confusion, write_confusion_plot


def test_cells_hold_shares_of_the_row_in_percent() -> None:
    figure = draw_confusion(np.array([[6, 2], [0, 5]]), ("back", "cat"), "title")
    axes = figure.axes[0]
    cells = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "75", (1, 0): "25", (1, 1): "100"}  # x is the prediction, y the label
    assert [label.get_text() for label in axes.get_yticklabels()] == ["back", "cat"]
    assert axes.get_title() == "title"


def test_row_without_pixels_is_blank_and_no_class_is_named() -> None:
    figure = draw_confusion(np.array([[6, 2, 2], [0, 0, 0]]), ("back", "a" * 40), "title")
    axes = figure.axes[0]
    assert np.ma.getmaskarray(axes.images[0].get_array()).tolist() == [[False] * 3, [True] * 3]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[2] == NO_CLASS
    assert [text.get_text() for text in axes.texts if text.get_position()[1] == 1] == [NO_PIXELS]
    assert len(labels[1]) == 22


def test_colours_darken_evenly() -> None:
    rgb = colormaps[COLOURS](np.linspace(0, 1, 64))[:, :3]
    brightness = rgb @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) < 0).all()


@pytest.mark.parametrize("num_classes", [2, 21])
def test_written_png_has_room_for_every_class(tmp_path: Path, num_classes: int) -> None:
    path = tmp_path / "deep" / "plot.png"
    write_confusion_plot(path, np.eye(num_classes, dtype=np.int64), [str(c) for c in range(num_classes)], "title")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 50 * num_classes
