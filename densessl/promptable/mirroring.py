"""An image and its mirror image, whose masks are averaged: prompts of the one as prompts of the other."""

from densessl.promptable.mask_decoder import DecodedMasks
from densessl.promptable.promptable_model import PromptBatch
from densessl.promptable.prompts import BOTTOM_RIGHT, TOP_LEFT


def mirror_prompts(batch: PromptBatch, frame_width: int) -> PromptBatch:
    """Return the prompts as the frame turned left to right has them; of a box the corners change places.

    frame_width: of the frame with its padding, in pixels.
    """
    points = batch.points.clone()
    points[..., 0] = frame_width - 1 - points[..., 0]  # the middle of a pixel is half a pixel further
    x = points[..., 0]
    left, right = batch.labels == TOP_LEFT, batch.labels == BOTTOM_RIGHT
    x[left], x[right] = x[right], x[left]
    masks = None if batch.masks is None else batch.masks.flip(-1)
    return batch._replace(points=points, masks=masks)


def average_masks(found: DecodedMasks, mirrored: DecodedMasks) -> DecodedMasks:
    """Return the mean logits and predicted IoU of an image and of its mirror image."""
    logits = (found.logits.float() + mirrored.logits.float().flip(-1)) / 2
    return DecodedMasks(logits, (found.predicted_iou.float() + mirrored.predicted_iou.float()) / 2)
