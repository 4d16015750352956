"""The objects of an image as separate masks, and the connected regions of a label map."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from densessl.structures import IGNORE, LabelMap, MaskArray


@dataclass(frozen=True)
class Instances:
    """The objects of one image.

    masks: one (height, width) each; COCO's may overlap.
    ignored: pixels that count for no mask, (height, width).
    labels: the class of each mask, where their source tells it; else empty.
    """

    masks: tuple[MaskArray, ...]
    ignored: MaskArray
    labels: tuple[int, ...] = ()


def connected_regions(label_map: LabelMap, ignore_index: int = IGNORE) -> tuple[MaskArray, ...]:
    """Return the 8-connected regions of each class but 0 and `ignore_index`, by class, then in reading order."""
    regions: list[MaskArray] = []
    for label in np.unique(label_map[(label_map != 0) & (label_map != ignore_index)]):
        num_parts, parts = cv2.connectedComponents((label_map == label).astype(np.uint8), connectivity=8)
        regions += [parts == part for part in range(1, num_parts)]
    return tuple(regions)


def framed_instances(instances: Instances, frame: Callable[[LabelMap], LabelMap]) -> Instances:
    """Return objects in another frame; `frame` brings a map (height, width) there by nearest neighbour."""

    def framed(mask: MaskArray) -> MaskArray:
        return frame(mask.astype(np.int64)) > 0

    return Instances(tuple(map(framed, instances.masks)), framed(instances.ignored), instances.labels)
