"""Tests of the synthetic data set: layout, determinism, resuming, splits and refused settings."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densessl.data.label_maps import read_label_map
from densessl.data.synthetic import SYNTHETIC_CLASS_NAMES, render_data_set, render_synthetic_image
from densessl.errors import InputError


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(path: Path) -> list[str]:
    return path.read_text().split()


def test_data_set_has_the_voc_layout(tmp_path: Path) -> None:
    out = render_data_set(tmp_path / "data", num_images=8, size_px=40, seed=0)

    assert out == tmp_path / "data"
    stems = [f"synth_{index:06d}" for index in range(8)]
    lists = out / "ImageSets/Segmentation"
    train, val = names(lists / "train.txt"), names(lists / "val.txt")
    assert sorted(train + val) == stems
    assert len(val) == 2
    assert names(lists / "train_aug.txt") == train
    assert names(out / "class_names.txt") == list(SYNTHETIC_CLASS_NAMES)
    assert SYNTHETIC_CLASS_NAMES[0] == "background"
    record = json.loads((out / "synth.json").read_text())
    assert record["version"] == 1
    for stem in stems:
        with Image.open(out / f"JPEGImages/{stem}.jpg") as image:
            assert image.mode == "RGB"
            width, height = image.size
        for folder in ("SegmentationClass", "SegmentationObject"):
            with Image.open(out / folder / f"{stem}.png") as label:
                assert label.mode == "P"
            assert read_label_map(out / folder / f"{stem}.png").shape == (height, width)


def test_written_labels_and_image_are_those_of_the_scene(tmp_path: Path) -> None:
    render_data_set(tmp_path, num_images=2, size_px=64, seed=3)
    scene = render_synthetic_image(1, 64, seed=3)
    np.testing.assert_array_equal(read_label_map(tmp_path / "SegmentationClass/synth_000001.png"), scene.classes)
    np.testing.assert_array_equal(read_label_map(tmp_path / "SegmentationObject/synth_000001.png"), scene.instances)
    decoded = np.asarray(Image.open(tmp_path / "JPEGImages/synth_000001.jpg"))
    assert np.abs(decoded.astype(int) - scene.image).mean() < 6  # red and blue in place; JPEG halves the hue's detail


def test_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        render_data_set(tmp_path / name, num_images=4, size_px=33, seed=11)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_images_do_not_depend_on_how_many_there_are_and_do_on_the_seed(tmp_path: Path) -> None:
    few = digests(render_data_set(tmp_path / "few", num_images=3, size_px=32, seed=0))
    many = digests(render_data_set(tmp_path / "many", num_images=10, size_px=32, seed=0))
    other = digests(render_data_set(tmp_path / "other", num_images=3, size_px=32, seed=1))
    rendered = [name for name in few if "synth_" in name]
    assert len(rendered) == 9
    assert all(few[name] == many[name] for name in rendered)
    assert all(few[name] != other[name] for name in rendered if name.endswith(".jpg"))


def test_a_stopped_run_is_completed_and_finished_images_are_kept(tmp_path: Path) -> None:
    render_data_set(tmp_path, num_images=4, size_px=32, seed=0)
    whole = digests(tmp_path)
    (tmp_path / "JPEGImages/synth_000002.jpg").unlink()
    (tmp_path / "ImageSets/Segmentation/val.txt").unlink()
    kept = tmp_path / "JPEGImages/synth_000001.jpg"
    written_at = kept.stat().st_mtime_ns

    render_data_set(tmp_path, num_images=4, size_px=32, seed=0)

    assert digests(tmp_path) == whole
    assert kept.stat().st_mtime_ns == written_at


def test_other_settings_are_refused_and_both_are_named(tmp_path: Path) -> None:
    render_data_set(tmp_path, num_images=2, size_px=32, seed=0)
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"num_images 2, size_px 32, .* but num_images 3, .* another output folder"):
        render_data_set(tmp_path, num_images=3, size_px=32, seed=0)
    (tmp_path / "synth.json").write_text("[]")
    with pytest.raises(InputError, match="of unknown settings"):
        render_data_set(tmp_path, num_images=2, size_px=32, seed=0)
    del before["synth.json"]
    assert before.items() <= digests(tmp_path).items()


@pytest.mark.parametrize("val_fraction", [0.0, 1.0, -0.5, float("nan")])
def test_val_fraction_out_of_range_is_refused(tmp_path: Path, val_fraction: float) -> None:
    with pytest.raises(InputError, match=f"val_fraction is {val_fraction}, .* between 0 and 1"):
        render_data_set(tmp_path, num_images=2, size_px=32, seed=0, val_fraction=val_fraction)


@pytest.mark.parametrize(
    ("num_images", "val_fraction", "num_val"),
    [(2, 0.25, 1), (2, 0.01, 1), (2, 0.99, 1), (12, 0.25, 3), (10, 0.5, 5)],
)
def test_both_splits_get_images(tmp_path: Path, num_images: int, val_fraction: float, num_val: int) -> None:
    out = render_data_set(tmp_path, num_images, 32, 0, val_fraction=val_fraction)
    assert len(names(out / "ImageSets/Segmentation/val.txt")) == num_val
    assert len(names(out / "ImageSets/Segmentation/train.txt")) == num_images - num_val
