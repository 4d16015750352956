"""Views of whole images with the place of each pixel: against a loop, mirror images, images that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.data.normalisation import normalise_image
from densessl.data.patch_views import BORDER, MIDDLE, NEITHER, PatchViews, place_of_pixels, resize_long_side
from densessl.data.soft_targets import SoftMaps
from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.structures import ImageRef


@pytest.mark.parametrize(("height", "width"), [(107, 160), (160, 80), (12, 160), (1, 1)])
def test_places_agree_with_a_loop(height: int, width: int) -> None:
    places = place_of_pixels(height, width, margin_px=12)
    for row in range(height):
        for column in range(width):
            down, right = min(row, height - 1 - row), min(column, width - 1 - column)
            if min(down, right) < 12:
                expected = NEITHER
            elif down < 16 or right < 16 or down / height < 0.14 or right / width < 0.14:
                expected = BORDER
            else:
                expected = MIDDLE if min(down / height, right / width) > 0.3 else NEITHER
            assert places[row, column] == expected


@pytest.mark.parametrize(("height", "width"), [(107, 160), (120, 160), (90, 160), (160, 90), (160, 80), (70, 160)])
def test_every_edge_has_cells_of_the_border(height: int, width: int) -> None:
    cells = place_of_pixels(height, width, margin_px=12)[12::4, 12::4][
        : (height - 25) // 4 + 1, : (width - 25) // 4 + 1
    ]
    assert (cells == MIDDLE).any()
    for edge in (cells[0], cells[-1], cells[:, 0], cells[:, -1]):
        assert (edge == BORDER).all()


@pytest.mark.parametrize(("size", "expected"), [((200, 400), (80, 160)), ((30, 20), (160, 107)), ((1, 900), (1, 160))])
def test_the_long_side_is_the_size_asked_for(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_long_side(np.zeros((*size, 3), dtype=np.uint8), 160).shape == (*expected, 3)


def test_views_are_the_image_or_its_mirror_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 96, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    views = PatchViews((ImageRef("a", tmp_path / "a.png"),), size_px=96, margin_px=5)
    kinds = set()
    for epoch in range(12):
        key = SampleKey(seed=0, epoch=epoch, index=0)
        view = views[key]
        assert torch.equal(view.image, views[key].image)
        shown = {
            mirrored
            for mirrored in (False, True)
            if torch.equal(
                view.image[:, :60], normalise_image(np.ascontiguousarray(image[:, ::-1]) if mirrored else image)
            )
        }
        assert len(shown) == 1
        kinds |= shown
        assert not view.image[:, 60:].any()
        assert torch.equal(view.target[:60], torch.from_numpy(place_of_pixels(60, 96, 5)))  # symmetric
        assert (view.target[60:] == NEITHER).all()
    assert kinds == {False, True}


def test_an_image_that_cannot_be_read_teaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    views = PatchViews((ImageRef("a", tmp_path / "a.png"),), size_px=64, margin_px=12)
    view = views[SampleKey(seed=0, epoch=0, index=0)]
    assert view.image.shape == (3, 64, 64)
    assert (view.target == NEITHER).all()


def test_soft_maps_are_the_target_inside_the_margin(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    image, soft = (
        generator.integers(0, 256, (60, 96, 3), dtype=np.uint8),
        generator.integers(0, 256, (60, 96), np.uint8),
    )
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "soft").mkdir()
    Image.fromarray(soft).save(tmp_path / "soft" / "a.png")
    maps = SoftMaps((tmp_path / "soft",), (1.0,))
    views = PatchViews((ImageRef("a", tmp_path / "a.png"),), size_px=96, margin_px=5, maps=maps)
    expected = np.full((60, 96), NEITHER, dtype=np.float32)
    expected[5:-5, 5:-5] = soft[5:-5, 5:-5] / np.float32(255)
    kinds = set()
    for epoch in range(12):
        view = views[SampleKey(seed=0, epoch=epoch, index=0)]
        is_mirrored = not torch.equal(view.image[:, :60], normalise_image(image))
        kinds.add(is_mirrored)
        np.testing.assert_allclose(view.target[:60].numpy(), expected[:, ::-1] if is_mirrored else expected, atol=1e-6)
    assert kinds == {False, True}


def test_a_map_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (96, 60)).save(tmp_path / "a.png")
    (tmp_path / "soft").mkdir()
    Image.new("L", (60, 96)).save(tmp_path / "soft" / "a.png")
    maps = SoftMaps((tmp_path / "soft",), (1.0,))
    views = PatchViews((ImageRef("a", tmp_path / "a.png"),), size_px=96, margin_px=5, maps=maps)
    with pytest.raises(InputError, match=r"soft map of image .*a.png is \(96, 60\), the image \(60, 96\)"):
        views[SampleKey(seed=0, epoch=0, index=0)]
