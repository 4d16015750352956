"""Images in the model's frame: the package segment-anything's pixels, coordinates and masks."""

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from densessl.errors import InputError
from densessl.promptable.framing import Frame, frame_image, frame_of, restore_logits
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.vision_transformer import VisionTransformerShape

SETTINGS = PromptableSettings(
    "vision_transformer", 256, vision_transformer=VisionTransformerShape(64, 4, 4, (1, 3), 256, window=7)
)
TIGHT = PromptableSettings("resnet18", 256, padding="stride")
SIZES = [(240, 320), (333, 101), (500, 375), (7, 5), (1, 1), (256, 256), (255, 31)]


def drawn(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_images_are_framed_as_published(published: Sam, size: tuple[int, int]) -> None:
    image, transform = drawn(size), ResizeLongestSide(256)
    pixels = torch.as_tensor(transform.apply_image(image)).permute(2, 0, 1)[None]
    framed, frame = frame_image(image, SETTINGS)
    assert torch.equal(framed[None], published.preprocess(pixels))
    assert frame == Frame(size, tuple(pixels.shape[-2:]), (256, 256))


@pytest.mark.parametrize("size", SIZES)
def test_coordinates_go_to_the_frame_as_published_and_back(size: tuple[int, int]) -> None:
    points = np.random.default_rng(1).random((4, 3, 2)) * [size[1], size[0]]
    boxes = np.random.default_rng(2).random((4, 4)) * [size[1], size[0], size[1], size[0]]
    frame = frame_of(size, SETTINGS)
    np.testing.assert_array_equal(frame.to_frame(points), ResizeLongestSide(256).apply_coords(points, size))
    np.testing.assert_array_equal(frame.boxes_to_frame(boxes), ResizeLongestSide(256).apply_boxes(boxes, size))
    np.testing.assert_allclose(frame.to_image(frame.to_frame(points)), points)


@pytest.mark.parametrize("size", SIZES)
def test_logits_come_back_as_published(published: Sam, size: tuple[int, int]) -> None:
    logits = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    frame = frame_of(size, SETTINGS)
    assert torch.equal(restore_logits(logits, frame), published.postprocess_masks(logits, frame.scaled_size, size))


def test_a_sliver_keeps_a_row() -> None:
    """The published rule rounds its height to 0 and then fails."""
    assert frame_of((1, 5000), SETTINGS).scaled_size == (1, 256)
    assert frame_image(drawn((1, 5000)), SETTINGS)[0].shape == (3, 256, 256)


def test_padding_to_the_stride_keeps_what_is_in_the_square() -> None:
    image = drawn((100, 300))
    square, _ = frame_image(image, SETTINGS)
    tight, frame = frame_image(image, TIGHT)
    assert frame == Frame((100, 300), (85, 256), (96, 256))
    assert frame.grid == (6, 16)
    assert torch.equal(tight, square[:, :96])
    assert restore_logits(torch.zeros(1, 1, 24, 64), frame).shape == (1, 1, 100, 300)


@pytest.mark.parametrize("image", [Image.new("RGB", (4, 4)), "photo.jpg", None, torch.zeros(4, 4, 3)])
def test_what_is_no_array_is_told(image: object) -> None:
    with pytest.raises(InputError, match=r"image is a .*; a promptable model takes a NumPy array, uint8 RGB"):
        frame_image(image, SETTINGS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_what_is_no_image_is_told(image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"takes uint8 RGB \(height, width, 3\)"):
        frame_image(image, SETTINGS)
