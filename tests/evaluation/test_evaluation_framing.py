"""Framing: the stretched frame is the plain resize, the cropped one that of torchvision; labels follow the image."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

from densessl.errors import InputError
from densessl.evaluation.framing import Framing

SIZES = [(30, 60), (61, 30), (48, 48), (7, 9), (100, 33)]


def _image(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_stretch_is_one_resize(size: tuple[int, int]) -> None:
    image = _image(size)
    is_smaller = size[0] > 32 or size[1] > 48
    expected = cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)
    assert np.array_equal(Framing((32, 48)).image(image), expected)


@pytest.mark.parametrize("size", SIZES)
def test_crop_cuts_where_torchvision_does(size: tuple[int, int]) -> None:
    """The row and column numbers of an image, resized by us and cut by torchvision."""
    framing = Framing((20, 20), "crop")
    numbers = np.arange(size[0] * size[1], dtype=np.int64).reshape(size)
    resized = transforms.resize(torch.zeros(1, *size), 20)  # shorter side to 20
    whole = Framing((resized.shape[1], resized.shape[2])).labels(numbers)
    expected = transforms.center_crop(torch.from_numpy(whole)[None], [20, 20])[0].numpy()
    assert np.array_equal(framing.labels(numbers), expected)
    assert framing.image(_image(size)).shape == (20, 20, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("frame", [(16, 24), (24, 16), (40, 40)])
def test_labels_lie_over_their_image(size: tuple[int, int], fit: str, frame: tuple[int, int]) -> None:
    """Halves of two colours: where the framed image shows one of them, the framed labels say so."""
    labels = np.zeros(size, dtype=np.int64)
    labels[size[0] // 2 :] += 1
    labels[:, size[1] // 3 :] += 2
    image = np.repeat((labels * 80).astype(np.uint8)[:, :, None], 3, axis=2)
    framing = Framing(frame, fit)  # type: ignore[arg-type]
    framed, framed_labels = framing.image(image)[:, :, 0], framing.labels(labels)
    assert framed.shape == framed_labels.shape == frame
    agreement = (np.rint(framed / 80).astype(np.int64) == framed_labels).mean()
    assert agreement > 0.85  # all but the seams


def test_a_frame_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"\(0, 4\) \(height, width\) holds no pixel"):
        Framing((0, 4))
    with pytest.raises(InputError, match="framing 'pad' is unknown; choose stretch or crop"):
        Framing((4, 4), "pad")  # type: ignore[arg-type]
