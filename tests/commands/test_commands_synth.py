"""Tests of the command `synth`."""

import json
from pathlib import Path

import pytest

from densessl.commands.synth import synth
from densessl.errors import InputError


def test_synth_writes_the_data_set_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synth(tmp_path / "data", num_images=3, size_px=32, seed=4)

    settings = json.loads((tmp_path / "data/synth.json").read_text())["settings"]
    assert settings == {"num_images": 3, "size_px": 32, "seed": 4, "val_fraction": 0.25}
    assert len(list((tmp_path / "data/JPEGImages").glob("*.jpg"))) == 3
    printed = capsys.readouterr().out
    assert "3 synthetic images of 6 classes" in printed
    assert str(tmp_path / "data") in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 1}, r"num_images is 1, .* pass 2 or more"),
        ({"size_px": 31}, r"size_px is 31, .* 32-4096 pixels"),
        ({"size_px": 4097}, r"size_px is 4097, .* 32-4096 pixels"),
        ({"num_workers": 2}, r"num_workers is 2, but scenes of classes are rendered in one process"),
        ({"seed": -1}, r"seed is -1, .* 0 or above"),
    ],
)
def test_synth_refuses_settings_out_of_range(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        synth(tmp_path / "data", **arguments)
    assert not (tmp_path / "data").exists()


def test_synth_refuses_a_folder_with_other_content(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"is not empty and has no synth.json.*new or an empty output folder"):
        synth(tmp_path, num_images=2, size_px=32)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_synth_refuses_a_file_as_output_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(InputError, match="choose an output folder you may write"):
        synth(tmp_path / "data", num_images=2, size_px=32)
