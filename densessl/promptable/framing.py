"""How an image is laid into the model's frame, and coordinates and masks between the two (SAM's published rules)."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from densessl.promptable.promptable_settings import STRIDE, PromptableSettings
from densessl.promptable.prompts import check_image
from densessl.structures import ImageArray

MEAN = (123.675, 116.28, 103.53)  # ImageNet's, of samples in 0-255, as published
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the model's frame: scaled, in the top left corner, with padding below and to the right.

    image_size: of the image. scaled_size: of the image in the frame. padded_size: of the frame. All (height, width).
    """

    image_size: tuple[int, int]
    scaled_size: tuple[int, int]
    padded_size: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the image embedding."""
        return self.padded_size[0] // STRIDE, self.padded_size[1] // STRIDE

    def to_frame(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring points (..., 2), `(x, y)` pixels of the image, to pixels of the frame."""
        return points * self._scale()

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring points (..., 2) from the frame to the image."""
        return points / self._scale()

    def boxes_to_frame(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring boxes (..., 4), `(x0, y0, x1, y1)`, from the image to the frame."""
        return self.to_frame(boxes.reshape(*boxes.shape[:-1], 2, 2)).reshape(boxes.shape)

    def _scale(self) -> NDArray[np.float64]:
        (height, width), (scaled_height, scaled_width) = self.image_size, self.scaled_size
        return np.array([scaled_width / width, scaled_height / height])


def frame_of(image_size: tuple[int, int], settings: PromptableSettings) -> Frame:
    """Return the frame of an image of (height, width): its longest side becomes `size_px`, then it is padded.

    Sides are rounded as published, by floor(side * scale + 0.5), but never to 0.
    """
    scale = settings.size_px / max(image_size)
    height, width = (max(1, int(side * scale + 0.5)) for side in image_size)
    if settings.padding == "square":
        return Frame(image_size, (height, width), (settings.size_px, settings.size_px))
    return Frame(image_size, (height, width), (height + -height % STRIDE, width + -width % STRIDE))


def frame_image(image: ImageArray, settings: PromptableSettings) -> tuple[torch.Tensor, Frame]:
    """Scale an image (bilinear with antialiasing), normalise it by ImageNet's mean and deviation, pad it with zeros.

    Args:
        image: uint8 RGB (height, width, 3).

    Returns:
        float32 (3, frame height, frame width), and the frame.

    Raises:
        InputError: an array that is no such image.
    """
    check_image(image)
    frame = frame_of(image.shape[:2], settings)
    scaled = np.array(Image.fromarray(image).resize(frame.scaled_size[::-1], Image.Resampling.BILINEAR))
    levels = (torch.arange(256)[:, None] - torch.tensor(MEAN)) / torch.tensor(STD)  # (256, 3): what each value becomes
    height, width = frame.scaled_size
    framed = np.zeros((3, *frame.padded_size), dtype=np.float32)
    for channel in range(3):
        framed[channel, :height, :width] = cv2.LUT(scaled[..., channel], levels[:, channel].numpy())
    return torch.from_numpy(framed), frame


def restore_logits(logits: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Bring the decoder's logits (num, masks, 4 h, 4 w) to the image's size (num, masks, height, width).

    As published: to the frame (bilinear), padding cut off, to the image (bilinear).
    """
    height, width = frame.scaled_size
    in_frame = nn.functional.interpolate(logits.float(), frame.padded_size, mode="bilinear")
    return nn.functional.interpolate(in_frame[..., :height, :width], frame.image_size, mode="bilinear")
