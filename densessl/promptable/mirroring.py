"""An image and its mirror image, whose masks are averaged: images, prompts and masks of the one as those of the other.

The mirror image lies in the frame as the image does, in the top left corner, with the padding where it was.
"""

import torch

from densessl.promptable.framing import Frame
from densessl.promptable.mask_decoder import DecodedMasks
from densessl.promptable.promptable_model import PromptBatch
from densessl.promptable.prompts import BOTTOM_RIGHT, TOP_LEFT


def mirror_image(framed: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Return a framed image (..., height, width) turned left to right within its padding."""
    width = frame.scaled_size[1]
    return torch.cat([framed[..., :width].flip(-1), framed[..., width:]], dim=-1)


def mirror_prompts(batch: PromptBatch, frame: Frame) -> PromptBatch:
    """Return prompts for the mirror image: clicks are pixels, boxes have edges, and their corners change places."""
    width, points = frame.scaled_size[1], batch.points.clone()
    pixel_px = width / frame.image_size[1]  # of the image, in the frame
    left, right = batch.labels == TOP_LEFT, batch.labels == BOTTOM_RIGHT
    x = points[..., 0]
    turned = torch.where(left | right, width - x, width - pixel_px - x)
    turned[left], turned[right] = turned[right], turned[left]
    points[..., 0] = turned
    masks = None if batch.masks is None else mirror_masks(batch.masks, frame)
    return batch._replace(points=points, masks=masks)


def mirror_masks(masks: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Return logits (..., 4 h, 4 w) turned left to right as the image is; linear between cells where it ends in one."""
    num_cells = masks.shape[-1]
    end = frame.scaled_size[1] * num_cells / frame.padded_size[1]  # of the image, in cells
    place = (end - 1 - torch.arange(num_cells, device=masks.device)).clamp(0, num_cells - 1)
    before = place.floor().long()
    share = (place - before).to(masks.dtype)
    return masks[..., before] * (1 - share) + masks[..., (before + 1).clamp_max(num_cells - 1)] * share


def average_masks(found: DecodedMasks, mirrored: DecodedMasks, frame: Frame) -> DecodedMasks:
    """Return the mean logits (num_prompts, num_masks, 4 h, 4 w) and predicted IoU (num_prompts, num_masks), float32, of
    an image and of its mirror image.
    """
    logits = (found.logits.float() + mirror_masks(mirrored.logits.float(), frame)) / 2
    return DecodedMasks(logits, (found.predicted_iou.float() + mirrored.predicted_iou.float()) / 2)
