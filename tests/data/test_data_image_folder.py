"""A plain folder as an image set."""

from pathlib import Path

import pytest
from PIL import Image

from densessl.data.image_folder import open_image_folder
from densessl.errors import InputError


def test_folder_becomes_a_set_without_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.new("RGB", (3, 2)).save(tmp_path / name)
    image_set = open_image_folder(tmp_path)
    assert image_set.name == tmp_path.name
    assert [ref.stem for ref in image_set.images] == ["a", "b"]
    assert image_set.labels is None
    assert image_set.class_names == ()


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images below"):
        open_image_folder(tmp_path)
