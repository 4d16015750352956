"""What views are cut from: reduced sizes, masks that follow, and a cache that changes nothing."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.masks import open_mask_folder
from densessl.data.view_batches import ViewPair
from densessl.data.view_settings import ViewSettings
from densessl.data.view_sources import MAX_MASKS, instance_map, largest_regions, open_source_cache, source_size
from densessl.data.view_transforms import geometric_transform
from densessl.data.views import PairedViews, SampleKey, sources_for
from densessl.errors import InputError
from densessl.structures import ImageRef

SETTINGS = ViewSettings(size_px=32)
KEYS = [SampleKey(3, epoch, index) for epoch in range(2) for index in range(4)]


def _draw(root: Path, size: tuple[int, int] = (150, 210), num: int = 4) -> Path:
    """Write smooth photographs with two boxes each as their mask."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    generator = np.random.default_rng(0)
    height, width = size
    for index in range(num):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(root / "images" / f"{index}.jpg", quality=95)
        mask = np.zeros(size, dtype=np.uint8)
        mask[height // 5 : height // 2, width // 6 : width // 3] = 255
        mask[height // 3 : -height // 6, width // 2 : -width // 7] = 255
        Image.fromarray(mask).save(root / "masks" / f"{index}.png")
    return root


def _views(
    root: Path, settings: ViewSettings = SETTINGS, cache: Path | None = None, gigabytes: float = 1
) -> PairedViews:
    images = open_image_folder(root / "images").images
    masks = open_mask_folder(root / "masks", images)
    kept = None
    if cache is not None:
        kept = open_source_cache(cache, sources_for(images, masks, settings), gigabytes * 1e9)
    neighbours = np.roll(np.arange(len(images)), 1)[:, None] if settings.neighbours else None
    return PairedViews(images, masks, settings, neighbours, kept)


def _same(first: ViewPair, second: ViewPair) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True)) and first[4:] == second[4:]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return _draw(tmp_path / "set")


@pytest.mark.parametrize(
    "changed",
    [{}, {"split_instances": True}, {"neighbours": 1}, {"reduce_images": True}, {"symmetries": True, "jitter": 0.0}],
)
def test_views_are_the_same_bits_with_and_without_a_cache(root: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **changed)
    plain = [_views(root, settings)[key] for key in KEYS]
    for gigabytes in (1.0, 0.3e-3):  # the second keeps two of four images
        views = _views(root, settings, tmp_path / f"cache-{gigabytes}", gigabytes)
        for _ in range(2):  # decoded, then from the cache
            assert all(_same(views[key], pair) for key, pair in zip(KEYS, plain, strict=True))
        assert all(
            _same(_views(root, settings, tmp_path / f"cache-{gigabytes}")[key], pair)
            for key, pair in zip(KEYS, plain, strict=True)
        )


def test_loader_processes_share_a_cache(root: Path, tmp_path: Path) -> None:
    plain = [_views(root)[key] for key in KEYS]
    views = _views(root, cache=tmp_path / "cache")
    for _ in range(2):
        loader = DataLoader(views, batch_sampler=[[key] for key in KEYS], num_workers=2, collate_fn=list)  # type: ignore[arg-type]
        assert all(_same(pair, expected) for (pair,), expected in zip(loader, plain, strict=True))
    assert all(views.sources.cache.read(index) is not None for index in range(4))  # type: ignore[union-attr]


def test_nothing_is_decoded_twice(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = [_views(root, cache=tmp_path / "cache")[key] for key in KEYS]
    monkeypatch.setattr("densessl.data.view_sources.read_image", None)
    again = [_views(root, cache=tmp_path / "cache")[key] for key in KEYS]
    assert all(_same(pair, expected) for pair, expected in zip(again, decoded, strict=True))


@pytest.mark.parametrize("which", ["images/1.jpg", "masks/1.png"])
def test_a_changed_image_or_mask_is_decoded_again_and_the_others_are_not(
    root: Path, tmp_path: Path, which: str
) -> None:
    old = _views(root, cache=tmp_path / "cache")
    for index in range(4):
        old.sources.read(index)
    with Image.open(root / which) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_180)
    turned.save(root / which)
    fresh = _views(root, cache=tmp_path / "cache")
    assert [fresh.sources.cache.read(index) is None for index in range(4)] == [False, True, False, False]  # type: ignore[union-attr]
    assert all(_same(fresh[key], _views(root)[key]) for key in KEYS)


def test_a_touched_file_counts_as_changed(root: Path, tmp_path: Path) -> None:
    _views(root, cache=tmp_path / "cache").sources.read(0)
    os.utime(root / "masks" / "0.png", ns=(5, 5))
    assert _views(root, cache=tmp_path / "cache").sources.cache.read(0) is None  # type: ignore[union-attr]


@pytest.mark.parametrize("changed", [{"split_instances": True}, {"reduce_images": True}])
def test_another_way_of_reading_is_another_entry(root: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    _views(root, cache=tmp_path / "cache").sources.read(0)
    views = _views(root, replace(SETTINGS, **changed), tmp_path / "cache")
    assert views.sources.cache.read(0) is None  # type: ignore[union-attr]


def test_a_missing_file_is_named(root: Path, tmp_path: Path) -> None:
    images = open_image_folder(root / "images").images
    masks = open_mask_folder(root / "masks", images)
    (root / "masks" / "2.png").unlink()
    with pytest.raises(InputError, match=r"cannot look at .*2.png \(No such file or directory\)"):
        open_source_cache(tmp_path / "cache", sources_for(images, masks, SETTINGS), 1e9)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((3000, 4000), (501, 668)),  # by hand: 224 / sqrt(3/4 * 0.2 * 12e6) = 0.16696
        ((480, 640), (480, 640)),  # 224 / sqrt(0.15 * 307200) = 1.04: needed whole
        ((400, 4000), (224, 2240)),  # its short side counts: 224 / 400
        ((224, 9000), (224, 9000)),
    ],
)
def test_the_size_that_views_need(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert source_size(size, 224, 0.2) == expected
    assert source_size(size[::-1], 224, 0.2) == expected[::-1]


@pytest.mark.parametrize("size", [(3000, 4000), (700, 1300), (1000, 1000), (400, 3000), (231, 5000)])
def test_no_crop_of_a_reduced_image_is_smaller_than_a_view(size: tuple[int, int]) -> None:
    settings = ViewSettings(size_px=224, min_scale=0.1)
    height, width = source_size(size, settings.size_px, settings.min_scale)
    assert height < size[0]
    transform = geometric_transform(settings)
    crop = transform.transforms[0]
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for seed in range(300):
        transform.set_random_seed(seed)
        left, top, right, bottom = crop.get_params_dependent_on_data({"shape": image.shape}, {})["crop_coords"]
        assert min(right - left, bottom - top) >= settings.size_px - 1  # rounding


def test_reduced_images_and_masks_stay_aligned(tmp_path: Path) -> None:
    root = _draw(tmp_path / "set", (900, 1300), 2)
    for index in range(2):  # the mask is the picture
        picture = Image.open(root / "masks" / f"{index}.png").convert("RGB")
        picture.save(root / "images" / f"{index}.jpg", quality=95)
    settings = replace(SETTINGS, reduce_images=True, jitter=0.0, grayscale=0.0)
    views = _views(root, settings)
    image, instances, _ = views.sources.read(0)
    assert image.shape[:2] == instances.shape == source_size((900, 1300), 32, 0.2)
    assert ((image[..., 0] > 127) == (instances > 0)).mean() > 0.99
    for key in KEYS[:2]:
        pair = views[key]
        assert ((pair.query_image[0] > 127) == (pair.query_mask > 0)).float().mean() > 0.98


def test_regions_are_those_of_the_whole_mask(tmp_path: Path) -> None:
    root = _draw(tmp_path / "set", (600, 900), 1)
    mask = np.zeros((600, 900), dtype=np.uint8)
    mask[100:300, 100:400] = mask[301:500, 100:400] = 255  # one row apart
    Image.fromarray(mask).save(root / "masks" / "0.png")
    views = _views(root, replace(SETTINGS, reduce_images=True, split_instances=True))
    assert np.unique(views.sources.read(0)[1]).tolist() == [0, 1, 2]


def test_small_images_are_read_as_they_are(root: Path) -> None:
    reduced = replace(SETTINGS, size_px=128, reduce_images=True)
    plain = _views(root, replace(reduced, reduce_images=False))
    assert all(_same(_views(root, reduced)[key], plain[key]) for key in KEYS)


def test_reduced_views_are_close_to_the_exact_ones(tmp_path: Path) -> None:
    root = _draw(tmp_path / "set", (600, 840))
    plain = replace(SETTINGS, size_px=64, jitter=0.0, grayscale=0.0)
    for key in KEYS:
        exact, reduced = (_views(root, replace(plain, reduce_images=is_reduced))[key] for is_reduced in (False, True))
        error = (exact.query_image.float() - reduced.query_image.float()).square().mean().item()
        assert 10 * np.log10(255**2 / error) > 33
        assert (exact.query_mask != reduced.query_mask).float().mean() < 0.04


def test_real_photographs_come_out_of_the_cache_bit_by_bit(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "voc_animals"
    everything = open_image_folder(folder / "JPEGImages").images
    masks = open_mask_folder(folder / "saliency_csnet", everything)
    images = tuple(ref for ref in everything if ref.stem in masks.files)[:12]
    settings = ViewSettings()
    cache = open_source_cache(tmp_path, sources_for(images, masks, settings), 1e9)
    cached = PairedViews(images, masks, settings, cache=cache)
    for index in range(len(images)):
        expected = PairedViews(images, masks, settings)[SampleKey(0, 1, index)]
        assert _same(cached[SampleKey(0, 1, index)], expected)
        assert _same(cached[SampleKey(0, 1, index)], expected)
        assert np.array_equal(cached.sources.read(index)[0], read_image(images[index].path))


def test_of_too_many_regions_the_largest_are_kept() -> None:
    regions = np.array([[1, 0, 2, 2, 0, 3, 3, 3, 0, 4]])
    assert largest_regions(regions, 4).tolist() == regions.tolist()
    assert largest_regions(regions, 2).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2, 0, 0]]
    assert largest_regions(regions, 3).tolist() == [[1, 0, 2, 2, 0, 3, 3, 3, 0, 0]]  # of equal ones the first


def test_a_mask_of_many_regions_is_no_error(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[::2, ::2] = 255  # 600 single pixels
    mask[10:20, 10:30] = 255
    Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    ref = ImageRef("a", tmp_path / "a.jpg")
    found = instance_map(open_mask_folder(tmp_path / "masks", [ref]), ref, (40, 60), split_instances=True)
    assert found.max() == MAX_MASKS
    assert np.unique(found[10:20, 10:30]).size == 1
