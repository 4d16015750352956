"""The command `attention`: what it writes, resuming, bad images, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import DrawnFolder, Outcome, command, truncate

from densessl.attention.maps import attention_maps
from densessl.attention.rollout import rollout
from densessl.data.images import read_image
from densessl.models.dense_encoder import TimmSource
from densessl.models.vision_encoder import open_vision_encoder

VIT = ("--encoder", "test_vit", "--image_size", "64")


@pytest.fixture
def images(drawn: DrawnFolder, tmp_path: Path) -> Path:
    """Three of the drawn images, 48x64 and 64x48 by turns."""
    folder = tmp_path / "images"
    (folder / "nested").mkdir(parents=True)
    for number, path in enumerate(sorted(drawn.images.iterdir())[:3]):
        shutil.copy(path, folder / ("nested" if number == 2 else "") / path.name)
    return folder


def attention(*words: object) -> Outcome:
    return command("attention", *words)


def record(out: Path) -> dict:
    return json.loads((out / "attention.json").read_text())


def stems(images: Path) -> list[str]:
    return sorted(path.relative_to(images).with_suffix("").as_posix() for path in images.rglob("*.*"))


def test_a_folder_of_images(images: Path, drawn: DrawnFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--query", "10,20", "--match", sorted(images.glob("*.*"))[0], "--sharpness", "48,80", "--panels", "true")
    outcome = attention(*VIT, "--images", images, "--masks", drawn.masks, *flags, "--out", out)
    assert outcome.status == 0, outcome.err
    assert "3 images" in outcome.err
    for stem in stems(images):
        with Image.open(out / "sheets" / f"{stem}.png") as sheet:
            assert sheet.format == "PNG"
        assert (out / "panels" / stem / "match_similarity.png").is_file()
    written = record(out)
    heads = {name: value for name, value in written["head_ious"].items() if name.startswith("head ")}
    assert heads[written["best_head"]] == max(heads.values())
    assert set(written["half_distance_px"]) == {"48", "64", "80"}
    assert written["supervision"] == "none (random weights)"
    page = (out / "index.html").read_text()
    assert page.count("<img") == 3
    assert "Heads against masks" in page
    assert "best head" in outcome.err


def test_arrays_are_those_of_the_functions(images: Path, tmp_path: Path) -> None:
    outcome = attention(*VIT, "--image", sorted(images.glob("*.*"))[0], "--layer", "0", "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    path = sorted(images.glob("*.*"))[0]
    encoder = open_vision_encoder(TimmSource("test_vit"), torch.device("cpu"))
    photo = read_image(path)
    assert max(photo.shape) == 64  # so that it is not resized
    pixels = encoder.normalise(torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255)
    expected = attention_maps(encoder.transformer, pixels, (0,), for_rollout=True, with_features=True)
    with np.load(tmp_path / "out" / "arrays" / f"{path.stem}.npz") as arrays:
        np.testing.assert_allclose(arrays["attention"], expected.maps[0, 0], atol=1e-6)
        np.testing.assert_allclose(arrays["rollout"], rollout(expected)[0], atol=1e-6)
        np.testing.assert_allclose(arrays["features"], expected.features[0].permute(1, 2, 0), atol=1e-5)
        assert arrays["native_size"].tolist() == list(photo.shape[:2])


def test_a_bad_image_is_left_out_and_tried_again(images: Path, tmp_path: Path) -> None:
    bad = sorted(images.glob("*.*"))[0]
    good = tmp_path / bad.name
    shutil.copy(bad, good)
    truncate(bad)
    out = tmp_path / "out"
    outcome = attention(*VIT, "--images", images, "--out", out)
    assert outcome.status == 0, outcome.err
    assert f"left out {bad.stem}" in outcome.err
    assert [item["stem"] for item in record(out)["rejected"]] == [bad.stem]
    assert f"{bad.stem}: image" in (out / "index.html").read_text()
    shutil.copy(good, bad)
    changed = {path: path.stat().st_mtime_ns for path in (out / "arrays").rglob("*.npz")}
    outcome = attention(*VIT, "--images", images, "--out", out)
    assert "3 images, 2 looked at before" in outcome.err
    assert all(path.stat().st_mtime_ns == at for path, at in changed.items())
    assert record(out)["rejected"] == []


def test_a_folder_of_something_else_is_refused(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert attention(*VIT, "--images", images, "--out", out).status == 0
    outcome = attention(*VIT, "--images", images, "--layer", "0", "--out", out)
    assert outcome.status == 1
    assert re.search(r"begun with something else \(layer \d there, 0 now\)", outcome.err)
    outcome = attention(*VIT, "--images", images, "--seed", "1", "--out", out)
    assert "fingerprint" in outcome.err


def test_a_folder_among_the_images_is_refused(images: Path) -> None:
    outcome = attention(*VIT, "--images", images, "--out", images / "out")
    assert outcome.status == 1
    assert "lies in the image folder" in outcome.err
    assert not (images / "out").exists()


def test_another_image_of_the_same_name_is_looked_at(images: Path, tmp_path: Path) -> None:
    out, first, second = tmp_path / "out", *sorted(images.glob("*.*"))[:2]
    assert attention(*VIT, "--images", images, "--out", out).status == 0
    path = out / "arrays" / f"{first.stem}.npz"
    with np.load(path) as arrays:
        before = arrays["features"]
    shutil.copy(second, first)
    outcome = attention(*VIT, "--images", images, "--out", out)
    assert "3 images, 2 looked at before" in outcome.err
    with np.load(path) as arrays, np.load(out / "arrays" / f"{second.stem}.npz") as others:
        np.testing.assert_array_equal(arrays["features"], others["features"])
        assert arrays["features"].shape != before.shape or (arrays["features"] != before).any()


def test_a_folder_that_it_did_not_begin_is_left_alone(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("another page")
    outcome = attention(*VIT, "--images", images, "--out", out)
    assert outcome.status == 1
    assert "holds index.html, but no attention.json, so `attention` did not begin it" in outcome.err
    assert (out / "index.html").read_text() == "another page"


def test_pictures_of_an_earlier_call_do_not_stay(images: Path, tmp_path: Path) -> None:
    out, image = tmp_path / "out", sorted(images.glob("*.*"))[0]
    words = ("--image", image, "--panels", "true", "--out", out)
    assert attention(*VIT, *words, "--query", "10,20").status == 0
    panels = out / "panels" / image.stem
    assert (panels / "similarity.png").is_file()
    assert record(out)["query"] == "10,20"
    assert attention(*VIT, *words, "--mass", "0.5").status == 0
    assert not (panels / "similarity.png").exists()
    assert (panels / "heads.png").is_file()
    assert (record(out)["query"], record(out)["mass"]) == (None, 0.5)


def test_networks_without_attention_are_told_and_drawn(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = attention("--encoder", "test_resnet", "--images", images, "--image_size", "64", "--out", out)
    assert outcome.status == 0, outcome.err
    assert "no plain vision transformer with attention of a [CLS] token" in outcome.err
    assert "no plain vision transformer with attention of a [CLS] token" in (out / "index.html").read_text()
    cnn = ("--encoder", "test_resnet", "--images", images, "--out", tmp_path / "other")
    assert "layer is 3, but encoder test_resnet" in attention(*cnn, "--layer", "3").err
    with np.load(next((out / "arrays").rglob("*.npz"))) as arrays:
        assert "attention" not in arrays
        assert "features" in arrays


def test_a_point_outside_of_an_image_is_told(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = attention(*VIT, "--images", images, "--query", "60,10", "--out", out)
    assert outcome.status == 0, outcome.err
    assert "not drawn: point 60,10 lies outside" in outcome.err
    assert len(list((out / "sheets").rglob("*.png"))) < 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--image", "a.png", "--images", "b"), "both image and images"),
        ((), "neither image nor images"),
        (("--images", "b", "--query", "3"), "query '3' is no point x,y"),
        (("--images", "b", "--match", "c.png"), "given without query"),
        (("--images", "b", "--sharpness", "a"), "sharpness 'a' is no list"),
        (("--images", "b", "--sharpness", "8"), "sharpness has size 8"),
        (("--images", "b", "--image_size", "3"), "image_size is 3"),
        (("--images", "b", "--mass", "2"), "mass 2.0 is not a share"),
        (("--images", "b", "--num_shown", "0"), "num_shown is 0"),
        (("--images", "absent"), "no image folder absent"),
    ],
)
def test_refusals(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    outcome = attention("--encoder", "test_vit", *words, "--out", tmp_path / "out")
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_no_such_layer(images: Path, tmp_path: Path) -> None:
    outcome = attention(*VIT, "--images", images, "--layer", "50", "--out", tmp_path / "out")
    assert outcome.status == 1
    assert "layer 50 does not exist" in outcome.err


def test_damaged_arrays_are_made_again(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert attention(*VIT, "--images", images, "--out", out).status == 0
    truncate(next((out / "arrays").rglob("*.npz")))
    outcome = attention(*VIT, "--images", images, "--out", out)
    assert outcome.status == 0, outcome.err
    assert "3 images, 2 looked at before" in outcome.err
