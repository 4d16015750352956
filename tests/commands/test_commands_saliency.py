"""The command `saliency`: a folder in, masks and a summary out; unusable input is refused."""

import cv2
import numpy as np
import pytest

from densessl.commands.saliency import saliency
from densessl.errors import InputError


def test_folder_in_masks_out(tmp_path, capsys):
    image = np.full((60, 80, 3), 80, np.uint8)
    image[20:45, 25:60] = (30, 160, 220)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), image)
    summary = saliency(tmp_path / "out", images=tmp_path / "in", keep_soft=True, num_workers=0)
    assert (summary.num_images, summary.num_masks) == (1, 1)
    assert (tmp_path / "out/masks/a.png").is_file()
    assert (tmp_path / "out/soft/a.png").is_file()
    assert "1 masks from 1 images, 0 rejected" in capsys.readouterr().out


def test_neither_images_nor_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither"):
        saliency(tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no images below"):
        saliency(tmp_path / "out", images=tmp_path / "in")
