"""Which images are trained on, and why the others are not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_training import draw_images

from densessl.data.image_folder import open_image_folder
from densessl.data.masks import open_mask_folder
from densessl.errors import InputError
from densessl.training.usable_images import usable_images


def _split(root: Path):
    images = open_image_folder(root / "images")
    return usable_images(images, open_mask_folder(root / "masks", images.images), 0.01, 0.99)


def _paint(root: Path, stem: str, value: int) -> None:
    Image.fromarray(np.full((36, 44), value, dtype=np.uint8)).save(root / "masks" / f"{stem}.png")


def test_every_left_out_image_has_its_reason(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set")
    _paint(root, "01", 0)
    _paint(root, "02", 255)
    (root / "masks" / "03.png").unlink()
    (root / "images" / "04.png").write_bytes(b"not an image")
    usable, rejected = _split(root)
    assert [ref.stem for ref in usable] == ["00", "05"]
    reasons = {item.stem: item.reason for item in rejected}
    assert reasons["01"] == "foreground 0.0% is under 1% of the image"
    assert reasons["02"] == "foreground 100.0% is over 99% of the image"
    assert reasons["03"] == "no mask"
    assert "04.png" in reasons["04"]


def test_masks_of_other_images_are_refused(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set")
    Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(root / "masks" / "02.png")
    with pytest.raises(InputError, match=r"20 x 20, its image 36 x 44"):
        _split(root)


def test_no_usable_image_is_refused_with_examples(tmp_path: Path) -> None:
    root = draw_images(tmp_path / "set", 3)
    for stem in ("00", "01"):
        _paint(root, stem, 0)
    _paint(root, "02", 255)
    with pytest.raises(
        InputError, match=r"none of 3 images has a usable mask \(00: foreground 0.0%.*; check the masks"
    ):
        _split(root)
