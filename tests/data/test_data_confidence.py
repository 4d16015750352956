"""How sure masks are: read from soft maps, through crops and the cache, and refused where there are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from densessl.data.confidence import open_confidence
from densessl.data.image_folder import open_image_folder
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.data.view_batches import collate_views, unpack_views
from densessl.data.view_settings import ViewSettings
from densessl.data.view_sources import open_source_cache
from densessl.data.views import PairedViews, SampleKey, sources_for
from densessl.errors import InputError
from densessl.structures import ImageRef

SIZE = (40, 56)
SETTINGS = ViewSettings(size_px=32, num_local=2, local_size_px=16)


def _soft(index: int) -> NDArray[np.uint8]:
    """A map of which every value says where it is, above 127 in a box."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    soft = (rows * 3 + columns + index) % 128
    soft[8:30, 10 : 34 + 2 * index] += 128
    return soft.astype(np.uint8)


def _folder(root: Path, *, num: int = 3) -> Path:
    generator = np.random.default_rng(0)
    for name in ("images", "masks", "soft"):
        (root / name).mkdir(parents=True)
    for index in range(num):
        soft = _soft(index)
        image = generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(np.where(soft > 127, 255, 0).astype(np.uint8)).save(root / "masks" / f"{index}.png")
        Image.fromarray(soft).save(root / "soft" / f"{index}.png")
    return root


def _open(root: Path, masks: str = "masks") -> tuple[tuple[ImageRef, ...], MaskFolder]:
    images = open_image_folder(root / "images").images
    return images, open_mask_folder(root / masks if masks else root, images)


@pytest.mark.parametrize("masks", ["masks", "", "soft"])
def test_confidence_is_how_far_the_soft_map_is_from_a_half(tmp_path: Path, masks: str) -> None:
    """From `soft/` beside the masks, given or found in `masks/`, and from masks that are soft themselves."""
    images, folder = _open(_folder(tmp_path), masks)
    confidence = open_confidence(folder, images)
    for index, ref in enumerate(images):
        expected = np.array([[abs(2 * int(value) - 255) for value in row] for row in _soft(index)])
        assert np.array_equal(confidence.read(ref, SIZE), expected)
    assert confidence.read(images[0], SIZE, (20, 28)).shape == (20, 28)


def test_maps_of_16_bits(tmp_path: Path) -> None:
    root = _folder(tmp_path, num=1)
    Image.fromarray(_soft(0).astype(np.uint16) * 257).save(root / "soft" / "0.png")
    images, folder = _open(root)
    assert np.array_equal(open_confidence(folder, images).read(images[0], SIZE), np.abs(2 * _soft(0).astype(int) - 255))


def test_hard_masks_alone_are_refused_with_the_remedy(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    images, folder = _open(root)
    (root / "soft" / "1.png").unlink()
    with pytest.raises(InputError, match=r"lacks the soft maps of 1 of 3 images \(the first: 1\); .*keep_soft true"):
        open_confidence(folder, images)
    for path in (root / "soft").iterdir():
        path.unlink()
    (root / "soft").rmdir()
    with pytest.raises(InputError, match="lacks the soft maps of 3 of 3 images"):
        open_confidence(folder, images)


def test_a_map_of_another_size_is_refused(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    Image.fromarray(_soft(0)[:-1]).save(root / "soft" / "0.png")
    images, folder = _open(root)
    with pytest.raises(InputError, match=r"soft map .*0\.png is 39 x 56, its image 40 x 56"):
        open_confidence(folder, images).read(images[0], SIZE)


@pytest.mark.parametrize("changes", [{}, {"neighbours": 1}, {"symmetries": True}, {"reduce_images": True}])
def test_views_carry_it_through_the_same_crops_and_the_cache(tmp_path: Path, changes: dict[str, object]) -> None:
    """The pairs are those without it, and at each pixel it is what the mask's own pixel says."""
    images, folder = _open(_folder(tmp_path / "set"))
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    confidence = open_confidence(folder, images)
    neighbours = np.array([[1], [2], [0]]) if settings.neighbours else None
    plain = PairedViews(images, folder, settings, neighbours)
    cache = open_source_cache(tmp_path / "cache", sources_for(images, folder, settings, confidence), 1e9)
    variants = [PairedViews(images, folder, settings, neighbours, kept, confidence) for kept in (None, cache, cache)]
    for index in range(3):
        key = SampleKey(0, 1, index)
        expected, found = plain[key], [views[key] for views in variants]
        for pair in found:
            assert all(torch.equal(a, b) for a, b in zip(pair[:4], expected[:4], strict=True))
            assert torch.equal(pair.local_masks, expected.local_masks)
            for name in ("query", "key", "local"):
                sure = getattr(pair, f"{name}_confidence")
                assert torch.equal(sure, getattr(found[0], f"{name}_confidence"))
                assert len(sure.unique()) > 20
    assert expected.query_confidence is expected.local_confidence is None
    batch = unpack_views(collate_views(found), torch.device("cpu"))
    assert batch.query_confidence.shape == (3, 32, 32)
    assert batch.local.confidence.shape == (2, 3, 16, 16)
    assert torch.equal(batch.key_confidence[1], found[1].key_confidence.float() / 255)


def test_it_lies_where_the_mask_lies(tmp_path: Path) -> None:
    """A map that is sure of its foreground alone."""
    root = _folder(tmp_path)
    for index in range(3):
        Image.fromarray(np.where(_soft(index) > 127, 255, 127).astype(np.uint8)).save(root / "soft" / f"{index}.png")
    images, folder = _open(root)
    views = PairedViews(images, folder, SETTINGS, confidence=open_confidence(folder, images))
    for index in range(3):
        pair = views[SampleKey(1, 0, index)]
        for masks, sure in (
            (pair.query_mask, pair.query_confidence),
            (pair.key_mask, pair.key_confidence),
            (pair.local_masks, pair.local_confidence),
        ):
            assert torch.equal(sure, torch.where(masks > 0, 255, 1).to(torch.uint8))
