"""A plain folder as an image set."""

from pathlib import Path

import pytest
from PIL import Image

from densessl.data.image_folder import open_image_folder
from densessl.data.layouts import open_images
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


@pytest.mark.parametrize("place", ["images", "images/out", "other/../images/out"])
def test_output_among_the_images_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match=r"lies in the image folder .*; choose an output folder elsewhere"):
        open_images(tmp_path / "images", None, "", tmp_path / place)
    assert len(open_images(tmp_path / "images", None, "", tmp_path / "images_out").images) == 1
