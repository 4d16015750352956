"""Soft targets: the weighted mean of maps, and views of image and target together."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data import soft_targets
from densessl.data.soft_targets import SoftMaps, TargetViews, decidedness, open_target_cache
from densessl.data.view_settings import ViewSettings
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageRef

PLAIN = ViewSettings(size_px=16, min_scale=1.0, flip=0.0, jitter=0.0, grayscale=0.0)


def _write(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def test_the_mean_is_weighted_over_the_folders_that_have_the_map(tmp_path: Path) -> None:
    _write(tmp_path / "a/cats/1.png", np.full((4, 6), 255))
    _write(tmp_path / "b/cats/1.png", np.full((4, 6), 51))
    _write(tmp_path / "b/cats/2.png", np.full((3, 2), 102))
    maps = SoftMaps((tmp_path / "a", tmp_path / "b"), (0.25, 0.75))
    assert np.allclose(maps.read("cats/1"), 0.25 + 0.75 * 0.2)
    assert np.allclose(maps.read("cats/2"), 0.4)
    assert maps.has("cats/2")
    assert not maps.has("cats/3")
    with pytest.raises(InputError, match="image cats/3 has no soft map in"):
        maps.read("cats/3")


def test_a_folder_of_weight_0_is_left_out(tmp_path: Path) -> None:
    _write(tmp_path / "a/1.png", np.full((4, 6), 255))
    _write(tmp_path / "a/2.png", np.full((4, 6), 255))
    _write(tmp_path / "b/2.png", np.full((4, 6), 51))
    maps = SoftMaps((tmp_path / "a", tmp_path / "b"), (0.0, 1.0))
    assert not maps.has("1")
    with pytest.raises(InputError, match="image 1 has no soft map in"):
        maps.read("1")
    assert np.allclose(maps.read("2"), 0.2)


def test_maps_of_different_sizes(tmp_path: Path) -> None:
    _write(tmp_path / "a/1.png", np.zeros((4, 6)))
    _write(tmp_path / "b/1.png", np.zeros((6, 4)))
    with pytest.raises(InputError, match=r"is \(6, 4\), that of an earlier round \(4, 6\)"):
        SoftMaps((tmp_path / "a", tmp_path / "b"), (1, 1)).read("1")


def test_decided_maps_keep_the_two_sides_apart() -> None:
    assert decidedness(np.array([[0.9, 0.8], [0.5, 0.1]], dtype=np.float32)) == pytest.approx(0.85 - 0.3)
    assert decidedness(np.array([[1, 1], [0, 0]], dtype=np.float32)) == 1
    assert decidedness(np.zeros((2, 2), dtype=np.float32)) == 0
    assert decidedness(np.ones((2, 2), dtype=np.float32)) == 0


def test_views_move_image_and_target_together_and_repeat_themselves(tmp_path: Path) -> None:
    values = np.zeros((24, 24, 3))
    values[:, :12] = 255
    image = ImageRef("1", _write(tmp_path / "images/1.png", values))
    _write(tmp_path / "soft/1.png", values[..., 0])
    targets = SoftMaps((tmp_path / "soft",), (1.0,))
    view = TargetViews((image,), targets, PLAIN)[SampleKey(0, 0, 0)]
    assert view.image.shape == (3, 16, 16)
    assert torch.equal(view.target > 0.5, view.image[0] > 0)
    turned = ViewSettings(size_px=16, min_scale=0.5)
    first, again, other = (TargetViews((image,), targets, turned)[SampleKey(0, epoch, 0)] for epoch in (0, 0, 1))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.image, other.image)


def test_reduced_images_and_targets_are_kept_until_either_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.zeros((96, 128, 3))
    values[:, :64] = 255
    image = ImageRef("1", _write(tmp_path / "images/1.png", values))
    soft = _write(tmp_path / "soft/1.png", values[..., 0])
    targets, settings = SoftMaps((tmp_path / "soft",), (1.0,)), replace(PLAIN, reduce_images=True)
    decoded = []
    original = soft_targets.read_image

    def counted(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
        decoded.append(size)
        return original(path, size)

    monkeypatch.setattr(soft_targets, "read_image", counted)
    for _ in range(2):  # the second finds what the first has kept
        cache = open_target_cache(tmp_path / "cache", (image,), targets, settings, 1e6)
        view = TargetViews((image,), targets, settings, cache)[SampleKey(0, 0, 0)]
        assert torch.equal(view.target > 0.5, view.image[0] > 0)
        assert decoded == [(16, 22)]  # as the largest crop needs it
    _write(soft, 255 - values[..., 0])
    os.utime(soft, ns=(0, 0))
    cache = open_target_cache(tmp_path / "cache", (image,), targets, settings, 1e6)
    view = TargetViews((image,), targets, settings, cache)[SampleKey(0, 0, 0)]
    assert torch.equal(view.target < 0.5, view.image[0] > 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(InputError, match=r"lower self_training\.cache_gb, or choose another output folder \(--out\)"):
        open_target_cache(tmp_path / "other", (image,), targets, settings, 1e6)
    monkeypatch.undo()
    cache.remove()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("settings", [PLAIN, replace(PLAIN, reduce_images=True)])
def test_a_target_of_another_size_than_its_image(settings: ViewSettings, tmp_path: Path) -> None:
    image = ImageRef("1", _write(tmp_path / "images/1.png", np.zeros((24, 20, 3))))
    _write(tmp_path / "soft/1.png", np.zeros((20, 24)))
    views = TargetViews((image,), SoftMaps((tmp_path / "soft",), (1.0,)), settings)
    with pytest.raises(InputError, match=r"is \(20, 24\), the image \(24, 20\)"):
        views[SampleKey(0, 0, 0)]
