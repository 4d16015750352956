"""Boundary IoU: by hand, against a slow loop from the equation and against erosion of each class's mask."""

import cv2
import numpy as np
import pytest

from densessl.errors import InputError
from densessl.evaluation.boundary import band_of, band_width, boundary_confusion, boundary_scores


def slow_band(mask: np.ndarray, width: int) -> set[tuple[int, int]]:
    """The pixels of a mask with a pixel outside of it, or of the image, at a chessboard distance of at most `width`."""
    height, breadth = mask.shape

    def is_outside(y: int, x: int) -> bool:
        return not (0 <= y < height and 0 <= x < breadth) or not mask[y, x]

    reach = range(-width, width + 1)
    return {
        (y, x)
        for y, x in np.argwhere(mask).tolist()
        if any(is_outside(y + down, x + right) for down in reach for right in reach)
    }


def eroded_band(mask: np.ndarray, width: int) -> np.ndarray:
    """What the erosion of a padded mask with a 3 x 3 square, `width` times, takes away."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1] == 0)


def scene(seed: int, size: tuple[int, int], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocky label maps with some pixels of no class, which are of no class in both."""
    rng = np.random.default_rng(seed)
    coarse = (size[0] // 9 + 1, size[1] // 9 + 1)
    labels = np.kron(rng.integers(0, num_classes, coarse), np.ones((9, 9), int))[: size[0], : size[1]]
    predictions = np.roll(labels, (2, -3), (0, 1))
    predictions[5:14, 3:20] = rng.integers(0, num_classes + 1)
    labels[-6:, 4:9] = predictions[-6:, 4:9] = num_classes
    return labels, predictions


@pytest.mark.parametrize(("seed", "size"), [(0, (31, 44)), (1, (60, 38)), (2, (48, 66))])
def test_equals_the_equation_per_class_over_images(seed: int, size: tuple[int, int]) -> None:
    num_classes = 4
    pairs = [scene(2 * seed, size, num_classes), scene(2 * seed + 1, (size[1], size[0]), num_classes - 1)]
    pairs[1] = tuple(np.where(values == num_classes - 1, num_classes, values) for values in pairs[1])
    total = sum(boundary_confusion(*pair, num_classes) for pair in pairs)
    expected = []
    for c in range(num_classes):
        common = union = 0
        for labels, predictions in pairs:
            width = max(1, round(0.02 * (labels.shape[0] ** 2 + labels.shape[1] ** 2) ** 0.5))
            bands = slow_band(labels == c, width), slow_band(predictions == c, width)
            common, union = common + len(bands[0] & bands[1]), union + len(bands[0] | bands[1])
        expected.append(common / union)
    scores = boundary_scores(total)
    assert scores.iou == pytest.approx(expected, abs=1e-12)
    assert scores.mean == pytest.approx(np.mean(expected), abs=1e-12)


def test_bands_are_what_erosion_takes_from_each_class() -> None:
    labels, _ = scene(3, (240, 320), 6)
    width = band_width(240, 320)
    assert width == 8
    band = band_of(labels, 6)
    for c in range(6):
        assert np.array_equal(band & (labels == c), eroded_band(labels == c, width))
    assert not band[labels == 6].any()


def test_by_hand() -> None:
    labels = np.zeros((5, 6), dtype=np.int64)  # d = 1: the band of one class alone is the rim of the image
    assert band_of(labels, 2).sum() == 5 * 6 - 3 * 4
    predictions = labels.copy()
    predictions[2, 2] = 1  # its 8 neighbours, all of the 3 x 4 inner pixels but 3, join the band of class 0
    scores = boundary_scores(boundary_confusion(labels, predictions, 2))
    assert scores.iou == pytest.approx((18 / (18 + 8), 0.0))
    assert scores.to_json()["mean_boundary_iou"] == scores.mean


def test_perfect_is_one_and_an_absent_class_has_none() -> None:
    labels, _ = scene(4, (40, 50), 3)
    scores = boundary_scores(boundary_confusion(labels, labels, 3))
    assert scores.iou == (1.0, 1.0, 1.0)
    flat = np.zeros((9, 9), dtype=np.int64)
    assert boundary_scores(boundary_confusion(flat, flat, 2)).iou == (1.0, None)


def test_width_is_two_percent_of_the_diagonal() -> None:
    assert band_width(375, 500) == 12  # 12.5, half to even
    assert band_width(480, 640) == 16
    assert band_width(3, 4) == 1


def test_too_many_classes() -> None:
    with pytest.raises(InputError, match="70000 classes are more than"):
        boundary_confusion(np.zeros((2, 2), dtype=np.int64), np.zeros((2, 2), dtype=np.int64), 70000)
