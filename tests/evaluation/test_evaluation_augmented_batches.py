"""Augmented batches of the linear probe: against a loop over pixels, repeatable, one step with the cached ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from densessl.data.label_maps import write_label_map
from densessl.data.layouts import open_data_set
from densessl.errors import InputError
from densessl.evaluation import augmented_batches
from densessl.evaluation.augmented_batches import AugmentedBatches, Placement, draw_placement, place
from densessl.evaluation.cluster_segmentation import read_label
from densessl.evaluation.encoder_features import CheckedFeatures, FeatureEncoder
from densessl.evaluation.feature_writing import store_features
from densessl.evaluation.framing import Framing
from densessl.evaluation.linear_schedule import FeatureBatch, cached_batches
from densessl.structures import IGNORE, ImageSet

FRAME = Framing((32, 32))
STILL = Placement(False, 0.0, 1.0)


def pooled(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(images, 8)


def encoder_of(function: Callable[[torch.Tensor], torch.Tensor] = pooled) -> FeatureEncoder:
    return FeatureEncoder(CheckedFeatures(function, "pooled"), "pooled", "0", "none")


def write_tree(root: Path) -> ImageSet:
    """Draw seven images, 20x30 and 30x20 by turns; the label of a pixel can be seen in its colour."""
    generator = np.random.default_rng(0)
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(f"i{number}" for number in range(7)))
    for number in range(7):
        labels = np.kron(generator.integers(0, 3, (2, 3) if number % 2 else (3, 2)), np.ones((10, 10)))
        write_label_map(root / "SegmentationClass" / f"i{number}.png", labels.astype(np.uint8))
        cv2.imwrite(str(root / "JPEGImages" / f"i{number}.jpg"), np.repeat(labels[..., None] * 100, 3, 2))
    return open_data_set(root, "train")


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return write_tree(tmp_path)


def batches_of(images: ImageSet, encoder: FeatureEncoder, seed: int = 0, num_workers: int = 0) -> AugmentedBatches:
    return AugmentedBatches(
        images, encoder, FRAME, batch_size=3, seed=seed, encoder_batch_size=2, num_workers=num_workers
    )


def test_labels_are_placed_as_a_loop_over_pixels_places_them() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 21, (12, 19))
    image = np.repeat(labels[..., None], 3, axis=2).astype(np.uint8)
    placement = Placement(True, 30.0, 0.8)
    _, found = place(image, labels, placement)
    angle = np.deg2rad(placement.angle_deg)
    num_compared = 0
    for row in range(12):
        for column in range(19):
            # where the pixel came from: turned back and shrunk back about the centre, then mirrored
            x, y = (column - 9.0) / 0.8, (row - 5.5) / 0.8
            from_x = np.cos(angle) * x - np.sin(angle) * y + 9.0
            from_y = np.sin(angle) * x + np.cos(angle) * y + 5.5
            if min(abs(from_x % 1 - 0.5), abs(from_y % 1 - 0.5)) < 0.1:  # between two pixels: rounding decides
                continue
            from_column, from_row = 18 - round(from_x), round(from_y)
            is_inside = 0 <= from_row < 12 and 0 <= from_column < 19
            assert found[row, column] == (labels[from_row, from_column] if is_inside else IGNORE)
            num_compared += 1
    assert num_compared > 100
    assert (found == IGNORE).any()


def test_image_and_labels_move_together() -> None:
    labels = np.zeros((40, 60), dtype=np.int64)
    labels[10:25, 8:30] = 2
    image = np.repeat((labels * 100)[..., None], 3, axis=2).astype(np.uint8)
    for seed in range(20):
        moved, found = place(image, labels, draw_placement(np.random.default_rng(seed)))
        is_counted = found != IGNORE
        assert ((moved[..., 0] > 100) == (found == 2))[is_counted].mean() > 0.98
        assert not moved[~is_counted].any() or moved[~is_counted].mean() < 20


def test_standing_still_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (9, 14, 3)).astype(np.uint8)
    labels = generator.integers(0, 5, (9, 14))
    moved, found = place(image, labels, STILL)
    assert np.array_equal(moved, image)
    assert np.array_equal(found, labels)
    moved, found = place(image, labels, replace(STILL, is_flipped=True))
    assert np.array_equal(moved, image[:, ::-1])
    assert np.array_equal(found, labels[:, ::-1])


def test_placements_are_drawn_as_published() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_placement(generator) for _ in range(4000)]
    assert np.mean([one.is_flipped for one in drawn]) == pytest.approx(0.5, abs=0.03)
    for values, low, high in (([p.angle_deg for p in drawn], -5, 5), ([p.scale for p in drawn], 0.75, 1.25)):
        assert low <= min(values) <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.03 * (high - low))


def test_without_movement_they_are_the_cached_batches(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmented_batches, "draw_placement", lambda _: STILL)
    encoder = encoder_of()
    store = store_features(tmp_path / "store", images.images, encoder, FRAME)
    labels = lambda index: FRAME.labels(read_label(images, images.images[index]))  # noqa: E731
    for epoch in (0, 4):
        fresh = list(batches_of(images, encoder)(epoch))
        cached = list(cached_batches(store, labels, 3, 0)(epoch))
        assert len(fresh) == len(cached) == 2
        for one, other in zip(fresh, cached, strict=True):
            assert one.stems == other.stems
            assert torch.equal(one.targets.long(), other.targets)
            assert torch.allclose(one.features, other.features, atol=2e-3)  # the store keeps float16


def same(one: list[FeatureBatch], other: list[FeatureBatch]) -> bool:
    return all(
        a.stems == b.stems and torch.equal(a.features, b.features) and torch.equal(a.targets, b.targets)
        for a, b in zip(one, other, strict=True)
    )


def test_an_epoch_repeats_itself_in_any_number_of_processes(images: ImageSet) -> None:
    first = list(batches_of(images, encoder_of())(2))
    assert same(first, list(batches_of(images, encoder_of())(2)))
    assert same(first, list(batches_of(images, encoder_of(), num_workers=2)(2)))
    assert not same(first, list(batches_of(images, encoder_of())(3)))
    assert not same(first, list(batches_of(images, encoder_of(), seed=1)(2)))
    assert all(batch.targets.shape == (3, 32, 32) and batch.features.shape == (3, 3, 4, 4) for batch in first)


def test_no_gradient_is_kept(images: ImageSet) -> None:
    layer = torch.nn.Conv2d(3, 4, 8, 8)
    for batch in batches_of(images, encoder_of(layer))(0):
        assert not batch.features.requires_grad


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_images_are_left_out(images: ImageSet, num_workers: int) -> None:
    images.images[2].path.write_bytes(b"broken")
    batches = batches_of(images, encoder_of(), num_workers=num_workers)
    stems = {stem for epoch in range(4) for batch in batches(epoch) for stem in batch.stems}
    assert stems == {f"i{number}" for number in range(7)} - {"i2"}
    assert [item.stem for item in batches.rejected] == ["i2"]
    for ref in images.images:
        ref.path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"none of the images of epoch 1 could be read; the first: .*i\d"):
        list(batches_of(images, encoder_of(), num_workers=num_workers)(0))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_labels_name_the_image(images: ImageSet, tmp_path: Path, num_workers: int) -> None:
    write_label_map(tmp_path / "SegmentationClass" / "i3.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(InputError, match=r"^label map of image 'i3' is 5x6, the image 20x30 \(height x width\)"):
        list(batches_of(images, encoder_of(), num_workers=num_workers)(0))
    (tmp_path / "SegmentationClass" / "i3.png").unlink()
    with pytest.raises(InputError, match="i3"):
        list(batches_of(images, encoder_of(), num_workers=num_workers)(0))
