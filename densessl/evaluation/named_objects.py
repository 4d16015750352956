"""The true objects of an image and the regions that a label map predicts, as masks of classes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from densessl.errors import InputError
from densessl.evaluation.coco_evaluation import CocoImage, CocoMask, encode_mask
from densessl.evaluation.image_objects import Instances
from densessl.evaluation.instance_scores import MAX_REGIONS
from densessl.evaluation.named_maps import NamedMaps
from densessl.structures import LabelMap, MaskArray

SMALLEST_SHARE = 0.001
"""Regions of labels under this share of an image's area are no objects but ignored, such as splinters between ignored
pixels: of 1,513 regions of 222 VOC label maps the median has 3 pixels, and 509 of them hold 99.9 % of the area."""

REGIONS = (
    f"connected regions of each class in the label maps, those under {100 * SMALLEST_SHARE:g} % of the image ignored; "
    "touching objects count as one"
)


@dataclass(frozen=True)
class ObjectTruth:
    """Where the true objects come from, in words, and how to read those of an image by its stem.

    read: None where they are the connected regions of the labels that are scored.
    """

    description: str
    read: Callable[[str], Instances] | None = None


def objects_of_maps(maps: NamedMaps, classes: Sequence[int], truth: Instances | None, stem: str) -> CocoImage:
    """Return the true objects and the predicted regions of one image, as run lengths.

    Categories are places in `classes` plus 1; class 0 is background and has neither. An object whose class its source
    does not tell has the class of most of its labelled pixels. Objects of no class that counts are left out.

    Args:
        maps: labels and prediction, as places in `classes`.
        truth: the objects; None for the connected regions of the labels, small ones ignored (`SMALLEST_SHARE`).
        stem: names the image in errors.

    Raises:
        InputError: objects of another size than the labels.
    """
    is_ignored = maps.labels >= maps.num_classes
    if truth is not None:
        if truth.ignored.shape != maps.labels.shape:
            raise InputError(
                f"the objects of image {stem!r} are {truth.ignored.shape[0]}x{truth.ignored.shape[1]}, its labels "
                f"{maps.labels.shape[0]}x{maps.labels.shape[1]} (height x width); make both at the image's size"
            )
        is_ignored = is_ignored | truth.ignored
    places = [place for place, label in enumerate(classes) if label != 0]
    objects: list[CocoMask] = []
    if truth is not None:
        objects += _objects(truth, maps, classes, is_ignored)
    else:
        for place in places:
            for mask in _regions(maps.labels == place):
                if mask.mean() >= SMALLEST_SHARE:
                    objects.append(CocoMask(encode_mask(mask), place + 1))
                else:
                    is_ignored |= mask
    found = []
    for place in places:
        regions = [(int(mask.sum()), mask) for mask in _largest(maps.predictions == place, is_ignored)]
        found += [CocoMask(encode_mask(mask), place + 1, area / mask.size) for area, mask in regions]
    return CocoImage((maps.labels.shape[0], maps.labels.shape[1]), tuple(objects), tuple(found))


def _objects(truth: Instances, maps: NamedMaps, classes: Sequence[int], is_ignored: MaskArray) -> Iterator[CocoMask]:
    for number, mask in enumerate(truth.masks):
        counted = mask & ~is_ignored
        if not counted.any():
            continue
        if truth.labels:
            label = truth.labels[number]
        else:
            label = classes[int(np.bincount(maps.labels[counted]).argmax())]
        if label != 0 and label in classes:
            yield CocoMask(encode_mask(counted), classes.index(label) + 1)


def _regions(mask: MaskArray) -> Iterator[MaskArray]:
    """Yield the 8-connected regions of a mask, in reading order."""
    num_parts, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    for part in range(1, num_parts):
        yield parts == part


def _largest(mask: MaskArray, is_ignored: MaskArray) -> Iterator[MaskArray]:
    """Yield the largest regions of a mask without their ignored pixels, the first of equals first.

    Regions are found before pixels are ignored: the dividing lines of the labels must not part a prediction.
    """
    parts: LabelMap = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1].astype(np.int64)
    parts[is_ignored] = 0
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    for part in np.argsort(-areas, kind="stable")[:MAX_REGIONS]:
        if areas[part] > 0:
            yield parts == part
