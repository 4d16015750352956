"""What a segmentation network says of an image, at the image's own size."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from densessl.data.normalisation import normalise_image
from densessl.models.precision import choose_precision
from densessl.models.segmentation_network import SegmentationNetwork, SegmentationNetworkHeader
from densessl.structures import ImageArray, LabelMap

_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class ClassMap:
    """labels: int64 (height, width), the most likely class. certainty: float32 (height, width), its probability."""

    labels: LabelMap
    certainty: NDArray[np.float32]


@dataclass(frozen=True)
class MaskClasses:
    """classes: int64 (num_masks,), the foreground class, 1 or more, of masks 1, 2, ...

    certainty: float64 (num_masks,), its mean probability in the mask among the foreground classes.
    """

    classes: NDArray[np.int64]
    certainty: NDArray[np.float64]


@torch.no_grad()
def class_probabilities(
    image: ImageArray, network: SegmentationNetwork, header: SegmentationNetworkHeader
) -> NDArray[np.float32]:
    """Return the probability of each class, float32 (num_classes, h, w), of a uint8 RGB image (height, width, 3).

    The image is brought to the scale of the training views, keeping its proportions, so (h, w) is another size than the
    image's. The softmax is averaged over the image as it is and mirrored. Computed in bf16 where the processor is
    fast at it, so that the last digits depend on the machine.
    """
    device = next(network.parameters()).device
    scaled = normalise_image(_at_training_scale(image, header)).to(device)
    is_fast = choose_precision("auto", device) == "bf16"
    with torch.autocast(device.type, torch.bfloat16, enabled=is_fast):
        both = network(torch.stack([scaled, scaled.flip(2)]).contiguous(memory_format=torch.channels_last))
    as_it_is, mirrored = both.float().softmax(dim=1)
    return ((as_it_is + mirrored.flip(2)) / 2).cpu().numpy()


def most_likely(probabilities: NDArray[np.float32], size: tuple[int, int]) -> ClassMap:
    """Return the most likely class of every pixel at `size` (height, width); probabilities are upsampled bilinearly.

    Args:
        probabilities: (num_classes, h, w). size: (height, width). Of equals, the lowest class.
    """
    labels = np.zeros(size, dtype=np.int64)
    certainty = np.full(size, -1, dtype=np.float32)
    for number, values in _upsampled(probabilities, size):
        is_higher = values > certainty
        labels[is_higher] = number
        certainty[is_higher] = values[is_higher]
    return ClassMap(labels, certainty)


def foreground_classes(probabilities: NDArray[np.float32], size: tuple[int, int]) -> LabelMap:
    """Return the most likely class of every pixel at `size` (height, width) among the foreground classes 1, 2, ..."""
    return most_likely(probabilities[1:], size).labels + 1


def classes_of_masks(probabilities: NDArray[np.float32], instances: NDArray[np.integer]) -> MaskClasses:
    """Choose one foreground class for each mask: `argmax_c sum_i log p_ic` over the pixels i of the mask.

    Up to a constant of each pixel, `log p` are the network's logits, so this sums logits.

    Args:
        probabilities: (num_classes, h, w), of the background (0) and the foreground classes.
        instances: (height, width), 0 background, m for mask m.
    """
    size = (instances.shape[0], instances.shape[1])
    num_masks = int(instances.max(initial=0))
    is_inside = instances > 0
    mask_of_pixel = instances[is_inside].astype(np.int64)
    num_pixels = np.bincount(mask_of_pixel, minlength=num_masks + 1)[1:]
    background = np.clip(_resize(probabilities[0], size)[is_inside], 0, 1 - _LEAST_PROBABILITY).astype(np.float64)
    sums = np.zeros((len(probabilities) - 1, num_masks))
    shares = np.zeros_like(sums)
    for row, values in _upsampled(probabilities[1:], size):
        inside = np.maximum(values[is_inside].astype(np.float64), _LEAST_PROBABILITY)
        sums[row] = np.bincount(mask_of_pixel, np.log(inside), minlength=num_masks + 1)[1:]
        shares[row] = np.bincount(mask_of_pixel, inside / (1 - background), minlength=num_masks + 1)[1:]
    best = sums.argmax(axis=0) if num_masks else np.zeros(0, dtype=np.int64)
    certainty = shares[best, np.arange(num_masks)] / np.maximum(num_pixels, 1)
    return MaskClasses(best.astype(np.int64) + 1, certainty)


def labels_under_masks(
    probabilities: NDArray[np.float32], instances: NDArray[np.integer], one_class_per_mask: bool
) -> LabelMap:
    """Return a label map whose background is that of the masks: their pixels take foreground classes, the rest 0.

    Args:
        probabilities, instances: as for `classes_of_masks`.
        one_class_per_mask: all pixels of a mask take the class of `classes_of_masks`, in place of each its own.
    """
    if one_class_per_mask:
        chosen = classes_of_masks(probabilities, instances).classes
        return np.concatenate([np.zeros(1, dtype=np.int64), chosen])[instances]
    size = (instances.shape[0], instances.shape[1])
    return np.where(instances > 0, foreground_classes(probabilities, size), 0)


def _at_training_scale(image: ImageArray, header: SegmentationNetworkHeader) -> ImageArray:
    """Resize an image so that the share of it that a training view showed has the area of a view, in pixels."""
    height, width = image.shape[:2]
    factor = header.size_px / (header.view_share * height * width) ** 0.5
    size = max(1, round(width * factor)), max(1, round(height * factor))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False)


def _upsampled(maps: NDArray[np.float32], size: tuple[int, int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each map's row and values at `size`, one at a time: all together large photographs would fill memory."""
    for row, values in enumerate(maps):
        yield row, _resize(values, size)


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
