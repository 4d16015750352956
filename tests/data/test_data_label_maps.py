"""Label maps on disk: palette, round trip, and refusals."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import read_label_map, select_classes, voc_palette, write_label_map
from densessl.errors import InputError, MissingInputError


def test_palette_has_the_published_colours() -> None:
    palette = voc_palette()
    assert palette.shape == (256, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 7: (128, 128, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
    known[255] = (224, 224, 192)
    assert {index: tuple(palette[index]) for index in known} == known
    assert len(np.unique(palette, axis=0)) == 256


def test_round_trip(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 256, (5, 7))
    write_label_map(tmp_path / "sub" / "a.png", labels)
    back = read_label_map(tmp_path / "sub" / "a.png")
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, labels)
    with Image.open(tmp_path / "sub" / "a.png") as image:
        assert image.mode == "P"


def test_greyscale_is_read_by_value(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 3, 255]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_label_map(tmp_path / "a.png").tolist() == [[0, 3, 255]]
    Image.fromarray(np.array([[0, 300]], dtype=np.uint16)).save(tmp_path / "b.png")
    assert read_label_map(tmp_path / "b.png").tolist() == [[0, 300]]


@pytest.mark.parametrize("values", [np.array([[256]]), np.array([[-1]])])
def test_values_out_of_range(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(InputError, match=rf"got {values[0, 0]}"):
        write_label_map(tmp_path / "a.png", values)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 3), (4,)])
def test_shapes_that_are_no_map(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="height, width"):
        write_label_map(tmp_path / "a.png", np.zeros(shape, dtype=np.int64))


def test_unusable_files(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no label file"):
        read_label_map(tmp_path / "none.png")
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2), (128, 0, 0)).save(path)
    with pytest.raises(InputError, match=r"mode RGB.*palette or greyscale PNG"):
        read_label_map(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be read"):
        read_label_map(path)


def test_select_classes_ignores_the_rest() -> None:
    labels = np.array([[0, 1, 2, 255]])
    assert select_classes(labels, None) is labels
    assert select_classes(labels, [0, 2]).tolist() == [[0, 255, 2, 255]]
