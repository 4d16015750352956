"""Multi-crop views: the same key gives the same crops, their sizes and scales, and the published asymmetry."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.image_folder import open_image_folder
from densessl.data.multi_crop import MultiCrops, MultiCropViews, collate_crops, unpack_crops
from densessl.data.multi_crop_settings import MultiCropSettings
from densessl.data.normalisation import normalise_bytes
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageRef

PLAIN = MultiCropSettings(
    global_size_px=32,
    num_local=3,
    local_size_px=16,
    flip=0,
    jitter=0,
    grayscale=0,
    first_blur=0,
    second_blur=0,
    local_blur=0,
    solarise=0,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRef, ...]:
    """Two images whose red tells the column and green the row, 60 x 90."""
    root = tmp_path_factory.mktemp("images")
    rows, columns = np.mgrid[0:60, 0:90]
    for number in range(2):
        values = np.stack([columns * 2, rows * 3, np.full_like(rows, 90 * number)], axis=-1)
        Image.fromarray(values.astype(np.uint8)).save(root / f"{number}.png")
    return open_image_folder(root).images


def _changed(**values: float) -> MultiCropSettings:
    return dataclasses.replace(PLAIN, **values)  # type: ignore[arg-type]


def _area(crop: torch.Tensor) -> float:
    """Return which share of an image a crop shows, told by the colours at its edges."""
    red, green = crop[0].float(), crop[1].float()
    size = crop.shape[-1]
    width = float(red[:, -1].mean() - red[:, 0].mean()) / 2 * size / (size - 1)
    height = float(green[-1].mean() - green[0].mean()) / 3 * size / (size - 1)
    return width * height / (60 * 90)


def test_shapes_and_scales(images: tuple[ImageRef, ...]) -> None:
    views = MultiCropViews(images, PLAIN)
    drawn = [views[SampleKey(0, epoch, 0)] for epoch in range(60)]
    assert drawn[0].global_crops.shape == (2, 3, 32, 32)
    assert drawn[0].local_crops.shape == (3, 3, 16, 16)
    shares = torch.tensor([_area(crop) for crops in drawn for crop in crops.global_crops])
    assert 0.36 < shares.min() < 0.5
    assert 0.85 < shares.max() < 1.06
    shares = torch.tensor([_area(crop) for crops in drawn for crop in crops.local_crops])
    assert 0.03 < shares.min() < 0.09
    assert 0.33 < shares.max() < 0.44


def test_a_key_gives_the_same_crops_in_any_order(images: tuple[ImageRef, ...]) -> None:
    settings = MultiCropSettings(global_size_px=32, num_local=2, local_size_px=16)
    first, second = MultiCropViews(images, settings), MultiCropViews(images, settings)
    expected = first[SampleKey(3, 1, 0)]
    second[SampleKey(3, 0, 1)]
    again = second[SampleKey(3, 1, 0)]
    for other, is_same in ((again, True), (first[SampleKey(3, 2, 0)], False), (first[SampleKey(4, 1, 0)], False)):
        assert all(torch.equal(*pair) for pair in zip(expected, other, strict=True)) == is_same


def test_the_pair_does_not_depend_on_the_number_of_local_crops(images: tuple[ImageRef, ...]) -> None:
    key = SampleKey(0, 0, 1)
    few, none = (MultiCropViews(images, _changed(num_local=number))[key] for number in (2, 0))
    assert torch.equal(few.global_crops, none.global_crops)
    assert none.local_crops.shape == (0, 3, 16, 16)


def test_only_the_second_global_crop_is_solarised(images: tuple[ImageRef, ...]) -> None:
    key = SampleKey(0, 0, 0)
    plain, solar = (MultiCropViews(images, _changed(solarise=value))[key] for value in (0, 1))
    assert torch.equal(plain.global_crops[0], solar.global_crops[0])
    assert torch.equal(plain.local_crops, solar.local_crops)
    values = plain.global_crops[1]
    assert torch.equal(solar.global_crops[1], torch.where(values >= 128, 255 - values, values))


@pytest.mark.parametrize("name", ["first_blur", "second_blur", "local_blur"])
def test_each_kind_of_crop_has_its_own_blur(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    images, key = open_image_folder(tmp_path).images, SampleKey(0, 0, 0)
    plain, blurred = MultiCropViews(images, PLAIN)[key], MultiCropViews(images, _changed(**{name: 1.0}))[key]
    parts = {
        "first_blur": lambda crops: crops.global_crops[0],
        "second_blur": lambda crops: crops.global_crops[1],
        "local_blur": lambda crops: crops.local_crops,
    }
    for kind, part in parts.items():
        sharp, soft = part(plain).float().std(), part(blurred).float().std()
        assert (soft < sharp) if kind == name else (soft == sharp)


def test_large_images_can_be_read_at_reduced_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    images, key = open_image_folder(tmp_path).images, SampleKey(0, 0, 0)
    sharp, smooth = (
        MultiCropViews(images, _changed(reduce_images=value))[key].global_crops.float().std() for value in (False, True)
    )
    assert smooth < sharp  # averaged pixels
    assert MultiCropSettings().finest_scale == pytest.approx(0.05 * (224 / 96) ** 2)


def test_batches_have_images_second_and_are_normalised_on_the_device(images: tuple[ImageRef, ...]) -> None:
    views = MultiCropViews(images, PLAIN)
    crops = [views[SampleKey(0, 0, index)] for index in range(2)]
    batch = collate_crops(crops)
    assert (batch.global_crops.shape, batch.local_crops.shape) == ((2, 2, 3, 32, 32), (3, 2, 3, 16, 16))
    assert torch.equal(batch.local_crops[2, 1], crops[1].local_crops[2])
    unpacked = unpack_crops(batch, torch.device("cpu"))
    assert isinstance(unpacked, MultiCrops)
    assert torch.equal(unpacked.global_crops, normalise_bytes(batch.global_crops))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"local_size_px": 8}, "dino.crops.local_size_px is 8; a crop must have at least 16 pixels"),
        ({"global_min_scale": 0.0}, "dino.crops.global_min_scale 0.0 and global_max_scale 1.0"),
        ({"num_local": -1}, "dino.crops.num_local is -1"),
        ({"solarise": 2.0}, "dino.crops.solarise is 2.0; a probability"),
    ],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiCropSettings(**values)  # type: ignore[arg-type]
