"""The command that checks a data set: what it prints and its exit status."""

from pathlib import Path

import pytest
from PIL import Image

from densessl.commands.check_data import check_data
from densessl.errors import MissingInputError


def test_clean_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        Image.new("RGB", (8, 5)).save(tmp_path / f"{number}.png")
    assert check_data(tmp_path) == 0
    assert capsys.readouterr().out == (
        "layout: image folder (no labels)\nsplit images: 2 images, no labels\nno faults\n"
    )


def test_faults_are_all_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 5)).save(tmp_path / "ok.png")
    for name in ("[bold]a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    assert check_data(tmp_path) == 1
    printed = capsys.readouterr().out.splitlines()
    assert "[bold]a.jpg is empty" in next(line for line in printed if line.startswith("fault: "))
    assert printed[-1] == "2 faults"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no data folder"):
        check_data(tmp_path / "none")


@pytest.mark.slow
@pytest.mark.real_data
def test_real_trees_are_clean(real_data: Path) -> None:
    assert check_data(real_data / "voc_animals") == 0
    assert check_data(real_data / "tiny_coco") == 0
