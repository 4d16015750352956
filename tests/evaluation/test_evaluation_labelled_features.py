"""Class shares of grid cells: by hand, against a slow loop on any sizes, and what is refused."""

import numpy as np
import pytest
from labelled_arrays import planted

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes, check_finite, class_shares, read_labelled
from densessl.structures import IGNORE, LabelMap


def test_shares_by_hand() -> None:
    labels = np.array([[0, 0, 5, 5], [0, 5, IGNORE, 7]])
    shares = class_shares(labels, (1, 2), Classes((0, 5), 8), "a")
    assert shares.dtype == np.float32
    assert shares.tolist() == [[0.75, 0.25], [0.0, 0.5]]  # 7 is no class of these and left out like 255
    assert class_shares(labels, (1, 2), Classes((5, 0), 8), "a").tolist() == [[0.25, 0.75], [0.5, 0.0]]


def slow_shares(labels: LabelMap, grid: tuple[int, int], class_labels: tuple[int, ...]) -> list[list[float]]:
    height, width = labels.shape
    rows = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            top, bottom = i * height / grid[0], (i + 1) * height / grid[0]
            left, right = j * width / grid[1], (j + 1) * width / grid[1]
            shares = [0.0] * len(class_labels)
            for y in range(height):
                for x in range(width):
                    area = max(0.0, min(bottom, y + 1) - max(top, y)) * max(0.0, min(right, x + 1) - max(left, x))
                    if labels[y, x] in class_labels:
                        shares[class_labels.index(labels[y, x])] += area / ((bottom - top) * (right - left))
            rows.append(shares)
    return rows


@pytest.mark.parametrize(("size", "grid"), [((9, 7), (4, 3)), ((8, 12), (2, 4)), ((3, 5), (6, 7)), ((1, 1), (2, 1))])
def test_shares_equal_the_slow_loop(size: tuple[int, int], grid: tuple[int, int]) -> None:
    labels = np.random.default_rng(1).choice([0, 1, 3, 4, IGNORE], size=size)
    expected = slow_shares(labels, grid, (3, 0, 4))
    assert class_shares(labels, grid, Classes((3, 0, 4), 5), "a") == pytest.approx(np.array(expected), abs=1e-6)


def test_images_are_read_in_order_and_by_number() -> None:
    source, labels = planted(3, (0, 1))
    assert [image.stem for image in read_labelled(source, labels.__getitem__)] == ["image0", "image1", "image2"]
    (image,) = read_labelled(source, labels.__getitem__, [2])
    assert (image.stem, image.features is source.maps[2], image.labels is labels[2]) == ("image2", True, True)


@pytest.mark.parametrize("wrong", [-1, 3, 254, 256])
def test_a_label_outside_the_range_names_the_image(wrong: int) -> None:
    with pytest.raises(InputError, match=rf"image 'cats/1' has label {wrong}; labels are 0-2, or 255"):
        Classes((0, 2), 3).columns(np.array([[0, wrong, IGNORE]]), "cats/1")


def test_labels_that_are_no_integers() -> None:
    with pytest.raises(InputError, match="labels of image 'a' have dtype float64"):
        Classes((0, 2), 3).columns(np.zeros((2, 2)), "a")


@pytest.mark.parametrize(
    ("labels", "num_labels", "message"),
    [
        ((), 3, "the list of classes is empty"),
        ((0, 3), 3, "class 3 is not one of the 3 classes 0-2"),
        ((1, 1), 3, r"a class is listed twice in \[1, 1\]"),
        ((0,), 256, "the number of classes is 256"),
    ],
)
def test_classes_that_make_no_sense(labels: tuple[int, ...], num_labels: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classes(labels, num_labels)


def test_broken_features_name_the_image() -> None:
    features = np.zeros((3, 2, 2), dtype=np.float32)
    check_finite(features, "a")
    features[1, 0, 1] = np.nan
    features[2, 0, 1] = np.inf
    with pytest.raises(InputError, match=r"features of image 'b/7' hold NaN or infinity in 1 of 4 cells"):
        check_finite(features, "b/7")
