"""Scenes of nested objects: the masks are nested, the bytes repeat, and the layout is COCO's."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from densessl.data import worker_pool
from densessl.data.images import read_image
from densessl.data.layouts import open_data_set
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.data.synthetic import render_data_set
from densessl.data.synthetic_nested_set import render_nested_image, render_nested_set
from densessl.errors import InputError


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("index", range(8))
def test_each_level_lies_in_the_one_around_it_and_is_much_smaller(index: int) -> None:
    scene = render_nested_image(index, 64, 0)
    whole, part, subpart = scene.masks
    assert scene.image.shape[:2] == whole.shape
    assert (subpart <= part).all()
    assert (part <= whole).all()
    assert 0.1 < whole.mean() < 0.45
    for outer, inner in ((whole, part), (part, subpart)):
        assert 0.1 < inner.sum() / outer.sum() < 0.5
    assert not whole[[0, -1]].any()
    assert not whole[:, [0, -1]].any()


def test_neighbouring_levels_differ_in_colour() -> None:
    for index in range(8):
        scene = render_nested_image(index, 96, 1)
        whole, part, subpart = scene.masks
        rings = (~whole, whole & ~part, part & ~subpart, subpart)
        colours = [scene.image[ring].mean(0) / 255 for ring in rings]
        assert all(np.linalg.norm(colours[level] - colours[level + 1]) > 0.1 for level in range(3))


def test_the_set_is_read_as_coco_and_its_objects_overlap(tmp_path: Path) -> None:
    render_nested_set(tmp_path, num_images=5, size_px=64, seed=0)
    train, val = open_data_set(tmp_path, "train"), open_data_set(tmp_path, "val")
    assert (len(train), len(val)) == (4, 1)
    assert train.class_names == ("background", "whole", "part", "subpart")
    objects = open_objects(tmp_path / "annotations/instances_train.json", train.images, ObjectSettings(min_area=0.0))
    for ref in train.images:
        scene = render_nested_image(int(ref.stem.removeprefix("nested_")), 64, 0)
        found = objects.read(ref, scene.image.shape[:2])
        assert len(found) == 3
        assert all(np.array_equal(one, two) for one, two in zip(found, scene.masks, strict=True))
        # colours are strong, and JPEG halves the hue's detail
        assert np.abs(read_image(ref.path).astype(int) - scene.image).mean() < 8


def test_same_settings_give_the_same_bytes_and_a_stopped_run_is_completed(tmp_path: Path) -> None:
    for name in ("first", "second"):
        render_nested_set(tmp_path / name, num_images=3, size_px=64, seed=7)
    (tmp_path / "second/train/nested_000000.jpg").unlink()
    (tmp_path / "second/annotations/instances_val.json").unlink()
    render_nested_set(tmp_path / "second", num_images=3, size_px=64, seed=7)
    assert _digests(tmp_path / "first") == _digests(tmp_path / "second")
    other = _digests(render_nested_set(tmp_path / "other", num_images=3, size_px=64, seed=8))
    assert other["train/nested_000000.jpg"] != _digests(tmp_path / "first")["train/nested_000000.jpg"]


def test_processes_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "_CHUNK", 1)  # so that each gets some
    alone = render_nested_set(tmp_path / "alone", num_images=5, size_px=64, seed=2, num_workers=0)
    shared = render_nested_set(tmp_path / "shared", num_images=5, size_px=64, seed=2, num_workers=2)
    assert _digests(alone) == _digests(shared)
    with pytest.raises(InputError, match="num_workers is -1; it must be 0 or more"):
        render_nested_set(tmp_path / "none", num_images=5, size_px=64, seed=2, num_workers=-1)


def test_the_folder_is_its_own_and_sizes_are_bounded(tmp_path: Path) -> None:
    render_data_set(tmp_path / "classes", num_images=2, size_px=64, seed=0)
    with pytest.raises(InputError, match="holds a synthetic data set of"):
        render_nested_set(tmp_path / "classes", num_images=2, size_px=64, seed=0)
    with pytest.raises(InputError, match="size_px is 48, but nested objects need 64 or more"):
        render_nested_set(tmp_path / "small", num_images=2, size_px=48, seed=0)
