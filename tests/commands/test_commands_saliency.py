"""The command `saliency`: a folder in, masks and a summary out; unusable input is refused."""

import json

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from densessl.commands.saliency import saliency
from densessl.errors import InputError
from densessl.models.encoders import build_encoder


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


def test_an_encoder_is_chosen_by_flags(tmp_path):
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "in/a.png"), image)
    save_file(build_encoder("test_resnet").backbone.state_dict(), tmp_path / "w.safetensors")
    features = {"encoder": "test_resnet", "weights": tmp_path / "w.safetensors", "output_stride": 8}
    flags = {"method": "deep_spectral", "feature_size_px": 128, "num_workers": 0, **features}
    summary = saliency(tmp_path / "out", images=tmp_path / "in", **flags)
    assert summary.num_images == 1
    recorded = json.loads((tmp_path / "out/saliency.json").read_text())["settings"]
    assert {name: recorded[name] for name in features} == {**features, "weights": str(features["weights"])}
    with pytest.raises(InputError, match="give a file with its weights"):
        saliency(tmp_path / "other", images=tmp_path / "in", method="deep_spectral")


def test_neither_images_nor_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither"):
        saliency(tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no images below"):
        saliency(tmp_path / "out", images=tmp_path / "in")


def test_parts_share_a_folder_and_the_last_writes_lists_and_gallery(tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    for name in "abc":
        image = np.full((60, 80, 3), 80, np.uint8)
        image[20:45, 25:60] = (30, 160, 220)
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), image)
    first = saliency(tmp_path / "out", images=tmp_path / "in", shard="2/2")
    assert (first.num_images, first.is_whole) == (1, False)
    assert not (tmp_path / "out/gallery").exists()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    last = saliency(tmp_path / "out", images=tmp_path / "in")
    assert (last.num_images, last.is_whole) == (2, True)
    assert (tmp_path / "out/gallery/index.html").is_file()
    assert len(json.loads((tmp_path / "out/proposals.json").read_text())["images"]) == 3
    assert "the lists are written when the other shards are finished" in capsys.readouterr().out
