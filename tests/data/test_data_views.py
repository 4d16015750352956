"""Paired views: the foreground rule, replacement, geometry, determinism, the published recipe."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from densessl.data.image_folder import open_image_folder
from densessl.data.label_maps import write_label_map
from densessl.data.masks import open_mask_folder
from densessl.data.normalisation import normalise_image
from densessl.data.view_batches import ViewPair, collate_views, unpack_views
from densessl.data.view_settings import ViewSettings, finest_scale
from densessl.data.view_sources import connected_regions, instance_map
from densessl.data.view_transforms import geometric_transform, photometric_transform
from densessl.data.views import PairedViews, SampleKey
from densessl.errors import InputError

PLAIN = ViewSettings(size_px=32, jitter=0.0, grayscale=0.0)
"""Views without colour changes."""


def _box_mask(index: int, size: tuple[int, int] = (40, 56)) -> NDArray[np.uint8]:
    mask = np.zeros(size, dtype=np.uint8)
    mask[8 + index : 30 + index, 10 : 34 + 2 * index] = 1
    return mask


def _folder(root: Path, masks: list[NDArray[np.uint8]], scale: int = 255, seed: int = 0) -> Path:
    """Draw one image per mask: noise, and the mask itself in the red channel."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    generator = np.random.default_rng(seed)
    for index, mask in enumerate(masks):
        image = generator.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
        image[..., 0] = mask * 255
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(mask * np.uint8(scale)).save(root / "masks" / f"{index}.png")
    return root


def _views(root: Path, settings: ViewSettings) -> PairedViews:
    images = open_image_folder(root / "images").images
    return PairedViews(images, open_mask_folder(root / "masks", images), settings)


def _same(first: ViewPair, second: ViewPair) -> bool:
    tensors = all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
    return tensors and first.stem == second.stem and first.num_replaced == second.num_replaced


def _red(image: torch.Tensor) -> torch.Tensor:
    return image[0] / 255


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _folder(tmp_path, [_box_mask(index) for index in range(3)])


def test_defaults_are_the_published_recipe() -> None:
    settings = ViewSettings()
    crop, flip, *further = geometric_transform(settings).transforms
    assert type(crop).__name__ == "RandomResizedCrop"
    assert (tuple(crop.size), tuple(crop.scale)) == ((224, 224), (0.2, 1.0))
    assert tuple(crop.ratio) == pytest.approx((3 / 4, 4 / 3))
    assert (crop.interpolation, crop.mask_interpolation) == (cv2.INTER_LINEAR, cv2.INTER_NEAREST_EXACT)
    assert (type(flip).__name__, flip.p) == ("HorizontalFlip", 0.5)
    assert all(step.p == 0 for step in further)
    jitter, grey, normalise = photometric_transform(settings).transforms
    assert jitter.p == 0.8
    for channel in (jitter.brightness, jitter.contrast, jitter.saturation):
        assert tuple(channel) == pytest.approx((0.6, 1.4))
    assert tuple(jitter.hue) == pytest.approx((-0.1, 0.1))
    assert (type(grey).__name__, grey.p) == ("ToGray", 0.2)
    assert type(normalise).__name__ == "Normalize"
    assert (settings.min_foreground, settings.max_foreground, settings.split_instances) == (0.01, 0.99, False)


def test_a_pair_has_the_promised_shapes(folder: Path) -> None:
    pair = _views(folder, ViewSettings(size_px=32))[SampleKey(0, 0, 1)]
    assert pair.query_image.shape == pair.key_image.shape == (3, 32, 32)
    assert pair.query_mask.shape == pair.key_mask.shape == (32, 32)
    assert {tensor.dtype for tensor in pair[:4]} == {torch.uint8}
    assert set(pair.query_mask.unique().tolist()) == {0, 1}
    assert (pair.stem, pair.num_replaced) == ("1", 0)


def test_both_views_hold_enough_foreground_and_enough_background(tmp_path: Path) -> None:
    small = np.zeros((40, 56), dtype=np.uint8)
    small[2:22, 2:24] = 1
    settings = dataclasses.replace(PLAIN, min_foreground=0.1, max_foreground=0.6, max_tries=500)
    views = _views(_folder(tmp_path, [small]), settings)
    for epoch in range(8):
        pair = views[SampleKey(0, epoch, 0)]
        for mask in (pair.query_mask, pair.key_mask):
            assert 0.1 <= (mask > 0).float().mean().item() <= 0.6


@pytest.mark.parametrize("symmetries", [False, True])
def test_image_and_mask_are_cut_alike(folder: Path, symmetries: bool) -> None:
    views = _views(folder, dataclasses.replace(PLAIN, symmetries=symmetries))
    for epoch in range(20):
        pair = views[SampleKey(3, epoch, epoch % 3)]
        for image, mask in ((pair.query_image, pair.query_mask), (pair.key_image, pair.key_mask)):
            agreement = ((_red(image) > 0.5) == (mask > 0)).float().mean().item()
            assert agreement > 0.99  # bilinear and nearest may differ along the edge


def test_the_two_views_are_drawn_independently(folder: Path) -> None:
    views = _views(folder, PLAIN)
    pairs = [views[SampleKey(0, epoch, 0)] for epoch in range(10)]
    assert not any(torch.equal(pair.query_mask, pair.key_mask) for pair in pairs)
    assert len({tuple(pair.query_mask.flatten().tolist()) for pair in pairs}) == 10


def test_key_views_come_from_neighbours_and_count_their_masks_as_one(tmp_path: Path) -> None:
    root = _folder(tmp_path, [_box_mask(index) * np.uint8(index + 1) for index in range(3)], scale=1)
    images = open_image_folder(root / "images").images
    masks = open_mask_folder(root / "masks", images)
    settings = dataclasses.replace(PLAIN, size_px=16, min_scale=1.0, flip=0.0, neighbours=2)
    views = PairedViews(images, masks, settings, np.array([[1, 2], [0, 0], [1, 1]]))
    keys = [views[SampleKey(0, epoch, 0)] for epoch in range(40)]
    assert {pair.stem for pair in keys} == {"0"}
    shares = {round(float((pair.key_mask > 0).float().mean()), 3) for pair in keys}
    areas = [round(float((_view_of(views, index).query_mask > 0).float().mean()), 3) for index in range(3)]
    assert len(set(areas)) == 3
    assert min(areas[1:]) - 0.06 < min(shares)
    assert max(shares) < max(areas[1:]) + 0.06
    assert len(shares) > 1
    assert {int(pair.key_mask.max()) for pair in keys} | {int(pair.query_mask.max()) for pair in keys} == {1}
    assert all(_same(views[SampleKey(4, 1, 2)], views[SampleKey(4, 1, 2)]) for _ in range(2))


def _view_of(views: PairedViews, index: int) -> ViewPair:
    return views[SampleKey(0, 0, index)]


def test_neighbours_are_given_where_they_are_asked_for(folder: Path) -> None:
    with pytest.raises(ValueError, match="exactly where settings"):
        _views(folder, dataclasses.replace(PLAIN, neighbours=1))


def test_flips_and_colour_changes_happen_as_often_as_asked(folder: Path) -> None:
    grey = _views(folder, dataclasses.replace(PLAIN, grayscale=1.0))[SampleKey(0, 0, 0)].query_image
    assert torch.equal(grey, grey[:1].expand(3, -1, -1))
    plain = _views(folder, PLAIN)[SampleKey(0, 0, 0)]
    jittered = _views(folder, dataclasses.replace(PLAIN, jitter=1.0))[SampleKey(0, 0, 0)]
    assert torch.equal(plain.query_mask, jittered.query_mask)  # colour does not move the crop
    assert not torch.equal(plain.query_image, jittered.query_image)


def test_the_key_decides_everything_in_any_order_and_process(folder: Path) -> None:
    views = _views(folder, ViewSettings(size_px=32))
    keys = [SampleKey(7, epoch, index) for epoch in range(2) for index in range(3)]
    here = {key: views[key] for key in keys}
    again = {key: _views(folder, ViewSettings(size_px=32))[key] for key in reversed(keys)}
    assert all(_same(here[key], again[key]) for key in keys)
    loader = DataLoader(views, batch_sampler=[[key] for key in keys], num_workers=2, collate_fn=list)  # type: ignore[arg-type]
    for key, (pair,) in zip(keys, loader, strict=True):
        assert _same(here[key], pair)
    others = [views[SampleKey(8, 0, 0)], views[SampleKey(7, 2, 0)]]
    assert not any(_same(here[keys[0]], other) for other in others)


@pytest.mark.slow
def test_a_fresh_interpreter_draws_the_same_pair(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from densessl.data.views import *\n"
        "from densessl.data.image_folder import open_image_folder; from densessl.data.masks import open_mask_folder\n"
        "root = Path(sys.argv[1]); images = open_image_folder(root / 'images').images\n"
        "views = PairedViews(images, open_mask_folder(root / 'masks', images), ViewSettings(size_px=32))\n"
        "torch.save(tuple(views[SampleKey(7, 1, 2)])[:4], root / 'pair.pt')"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    there = torch.load(folder / "pair.pt", weights_only=True)
    here = _views(folder, ViewSettings(size_px=32))[SampleKey(7, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(here[:4], there, strict=True))


def test_masks_of_0_1_and_of_0_255_give_the_same_pairs(tmp_path: Path) -> None:
    masks = [_box_mask(index) for index in range(3)]
    low, high = (_views(_folder(tmp_path / str(scale), masks, scale), PLAIN) for scale in (1, 255))
    for index in range(3):
        assert _same(low[SampleKey(0, 0, index)], high[SampleKey(0, 0, index)])


def test_an_image_without_usable_views_is_replaced_after_max_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = np.ones((40, 56), dtype=np.uint8)
    full[0, 0] = 0
    views = _views(_folder(tmp_path, [full, _box_mask(0)]), dataclasses.replace(PLAIN, max_tries=4))
    tried = []
    crop = PairedViews._crop

    def counted(self, source, generator):
        tried.append(bool(source.masks[0, 1]))  # foreground in the corner: the first image
        return crop(self, source, generator)

    monkeypatch.setattr(PairedViews, "_crop", counted)
    pair = views[SampleKey(0, 0, 0)]
    assert pair.stem == "1"
    assert pair.num_replaced >= 1
    assert sum(tried) == 2 * 4 * pair.num_replaced  # two views each time, as often as the image was drawn
    assert collate_views([pair, views[SampleKey(0, 0, 1)]]).num_replaced == pair.num_replaced
    assert _same(pair, views[SampleKey(0, 0, 0)])  # replacement too follows from the key


def test_one_sided_masks_end_with_an_error(tmp_path: Path) -> None:
    full, empty = np.ones((20, 24), dtype=np.uint8), np.zeros((20, 24), dtype=np.uint8)
    views = _views(_folder(tmp_path, [full, empty]), dataclasses.replace(PLAIN, max_tries=2))
    with pytest.raises(InputError, match=r"1%-99% foreground .* 21 images, the first being '0'; look at the masks"):
        views[SampleKey(0, 0, 0)]


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    root = _folder(tmp_path, [_box_mask(0), _box_mask(1)])
    Image.fromarray(_box_mask(0, (56, 40)) * np.uint8(255)).save(root / "masks" / "0.png")
    with pytest.raises(InputError, match=r"56 x 40, its image 40 x 56"):
        _views(root, PLAIN)[SampleKey(0, 0, 0)]


def test_connected_regions_are_numbered() -> None:
    mask = np.zeros((6, 9), dtype=bool)
    mask[0, 0] = mask[1, 1] = True  # neighbours by a corner only
    mask[4:, 5:] = True
    regions = connected_regions(mask)
    assert regions.dtype == np.int64
    assert sorted(np.unique(regions)) == [0, 1, 2, 3]
    assert len(np.unique(regions[4:, 5:])) == 1


def test_split_instances_keep_their_numbers_in_both_views(tmp_path: Path) -> None:
    mask = np.zeros((40, 56), dtype=np.uint8)
    mask[5:25, 4:24] = mask[20:36, 34:52] = 1
    root = _folder(tmp_path, [mask])
    image = np.zeros((40, 56, 3), dtype=np.uint8)
    image[5:25, 4:24, 0], image[20:36, 34:52, 0] = 250, 120
    Image.fromarray(image).save(root / "images" / "0.png")
    views = _views(root, dataclasses.replace(PLAIN, split_instances=True))
    seen: dict[int, list[float]] = {1: [], 2: []}
    for epoch in range(10):
        pair = views[SampleKey(0, epoch, 0)]
        for picture, numbers in ((pair.query_image, pair.query_mask), (pair.key_image, pair.key_mask)):
            for number, reds in seen.items():
                if (numbers == number).sum() >= 20:
                    reds.append(_red(picture)[numbers == number].median().item() * 255)
    assert seen[1] == pytest.approx([seen[1][0]] * len(seen[1]), abs=3)
    assert sorted((seen[1][0], seen[2][0])) == pytest.approx([120, 250], abs=3)
    together = _views(root, PLAIN)[SampleKey(0, 0, 0)]
    assert together.query_mask.max() == 1


def test_instance_ids_of_the_folder_are_kept(tmp_path: Path) -> None:
    root = _folder(tmp_path, [_box_mask(0)])
    numbers = np.zeros((40, 56), dtype=np.int64)
    numbers[4:20, 4:20], numbers[10:30, 30:50] = 2, 3
    write_label_map(root / "masks" / "0.png", numbers)
    images = open_image_folder(root / "images").images
    found = instance_map(open_mask_folder(root / "masks", images), images[0], (40, 56))
    assert found.dtype == np.uint8
    assert np.array_equal(found, numbers)


def test_more_masks_than_a_byte_holds_are_refused(tmp_path: Path) -> None:
    root = _folder(tmp_path, [_box_mask(0)])
    ids = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56) // 8  # 0 to 279
    Image.fromarray(ids).save(root / "masks" / "0.png")
    images = open_image_folder(root / "images").images
    masks = open_mask_folder(root / "masks", images)
    with pytest.raises(InputError, match=r"image '0' has 279 masks; at most 255 are supported, drop the smallest"):
        instance_map(masks, images[0], (40, 56))


def test_normalised_images_equal_those_of_the_views() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image[0, 0] = (255, 0, 127)
    values = normalise_image(image)
    assert values.shape == (3, 5, 7)
    assert values.dtype == torch.float32
    by_hand = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (127 / 255 - 0.406) / 0.225]
    assert values[:, 0, 0].tolist() == pytest.approx(by_hand, rel=1e-5)
    of_views = photometric_transform(PLAIN)(image=image)["image"].transpose(2, 0, 1)
    assert values.numpy() == pytest.approx(of_views, abs=1e-5)


def test_a_batch_unpacks_to_what_the_network_takes(folder: Path) -> None:
    """The images as albumentations normalises them, bit by bit; the masks as they were."""
    pairs = [_views(folder, ViewSettings(size_px=32))[SampleKey(0, 0, index)] for index in range(3)]
    batch = unpack_views(collate_views(pairs), torch.device("cpu"))
    normalise = photometric_transform(PLAIN)
    for images, masks, view in (
        (batch.query_images, batch.query_masks, "query"),
        (batch.key_images, batch.key_masks, "key"),
    ):
        assert (images.shape, images.dtype, images.is_contiguous()) == ((3, 3, 32, 32), torch.float32, True)
        assert (masks.shape, masks.dtype) == ((3, 32, 32), torch.int64)
        for image, mask, pair in zip(images, masks, pairs, strict=True):
            pixels = getattr(pair, f"{view}_image").permute(1, 2, 0).numpy()
            assert np.array_equal(image.permute(1, 2, 0), normalise(image=pixels)["image"])
            assert torch.equal(mask, getattr(pair, f"{view}_mask").long())
    assert batch.stems == ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size_px": 8}, r"views.size_px is 8; a view must be at least 16 pixels \(published 224\)"),
        ({"min_scale": 0.9, "max_scale": 0.5}, r"min_scale 0.9 and max_scale 0.5"),
        ({"min_foreground": 0.5, "max_foreground": 0.5}, r"0 <= min < max <= 1"),
        ({"flip": 1.5}, r"views.flip is 1.5; a probability lies in \[0, 1\]"),
        ({"max_tries": 0}, r"views.max_tries is 0; it must be at least 1"),
        ({"neighbours_size_px": 15}, r"views.neighbours_size_px is 15; it must be at least 16 pixels"),
        ({"neighbours": -1}, r"views.neighbours is -1; it must be 0 \(the image itself\) or more"),
        ({"neighbours": 2, "split_instances": True}, r"use one or the other"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ViewSettings(**values)  # type: ignore[arg-type]


LOCAL = dataclasses.replace(PLAIN, num_local=3, local_size_px=16)


def test_local_crops_leave_the_pair_as_it_was(folder: Path) -> None:
    for jitter in (0.0, 0.8):
        settings = dataclasses.replace(LOCAL, jitter=jitter)
        for index in range(3):
            pair = _views(folder, settings)[SampleKey(0, 1, index)]
            without = _views(folder, dataclasses.replace(settings, num_local=0))[SampleKey(0, 1, index)]
            assert _same(pair, without)
            assert without.local_images is without.local_masks is None
            assert pair.local_images.shape == (3, 3, 16, 16)
            assert pair.local_masks.shape == (3, 16, 16)
            assert pair.local_images.dtype == pair.local_masks.dtype == torch.uint8


def test_local_crops_carry_their_masks(folder: Path) -> None:
    """The red channel of the images is the mask."""
    pair = _views(folder, LOCAL)[SampleKey(0, 0, 0)]
    red = pair.local_images[:, 0].float() / 255
    assert float((red - pair.local_masks.float()).abs().mean()) < 0.1
    assert not torch.equal(pair.local_images[0], pair.local_images[1])


def test_local_crops_are_drawn_until_they_show_foreground(tmp_path: Path) -> None:
    """With many tries each shows some; with one the last stays as it is, empty ones too."""
    small = np.zeros((40, 56), dtype=np.uint8)
    small[2:16, 2:16] = 1
    root = _folder(tmp_path, [small])
    settings = dataclasses.replace(LOCAL, min_scale=0.9, num_local=8)
    shares = {}
    for tries in (1, 200):
        views = _views(root, dataclasses.replace(settings, max_tries=tries))
        shares[tries] = [float(mask.float().mean()) for mask in views[SampleKey(0, 0, 0)].local_masks]
    assert min(shares[1]) == 0
    assert min(shares[200]) >= 0.01


def test_local_crops_are_batched_view_by_view(folder: Path) -> None:
    views = _views(folder, LOCAL)
    pairs = [views[SampleKey(0, 0, index)] for index in range(2)]
    batch = unpack_views(collate_views(pairs), torch.device("cpu"))
    assert batch.local.images.shape == (3, 2, 3, 16, 16)
    assert batch.local.masks.shape == (3, 2, 16, 16)
    assert batch.local.masks.dtype == torch.int64
    for number, pair in enumerate(pairs):
        assert torch.equal(batch.local.masks[:, number], pair.local_masks.long())
        expected = normalise_image(pair.local_images[2].permute(1, 2, 0).numpy())
        torch.testing.assert_close(batch.local.images[2, number], expected)
    alone = unpack_views(collate_views([pairs[0]._replace(local_images=None, local_masks=None)]), torch.device("cpu"))
    assert alone.local is None


def test_reduced_images_keep_the_pixels_of_local_crops() -> None:
    plain = ViewSettings(reduce_images=True)
    assert finest_scale(plain) == finest_scale(dataclasses.replace(plain, num_local=6)) == 0.2
    fine = dataclasses.replace(plain, num_local=6, local_min_scale=0.01)  # 96 of 224 px on a hundredth
    assert finest_scale(fine) == pytest.approx(0.01 * (224 / 96) ** 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_local": -1}, r"views\.num_local is -1; it must be 0"),
        ({"num_local": 2, "local_size_px": 64}, r"local_size_px is 64; .* at most those of a view, views\.size_px 32"),
        ({"local_min_scale": 0.0}, r"views\.local_min_scale 0\.0 and local_max_scale"),
    ],
)
def test_local_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(PLAIN, **changes)
