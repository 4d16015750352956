"""The objects of an image as separate masks: from COCO annotations, VOC object maps, or connected regions."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from densessl.data.coco import CocoLabels
from densessl.data.coco_segments import SegmentError, segment_to_mask
from densessl.data.label_maps import read_label_map
from densessl.data.voc import VocLabels
from densessl.errors import InputError
from densessl.structures import IGNORE, ImageRef, ImageSet, LabelMap, LabelReader, MaskArray


@dataclass(frozen=True)
class Instances:
    """The objects of one image.

    masks: one (height, width) each; COCO's may overlap.
    ignored: pixels that count for no mask, (height, width).
    """

    masks: tuple[MaskArray, ...]
    ignored: MaskArray


@dataclass(frozen=True)
class InstanceSource:
    """Where the objects come from, in words, and how to read those of an image."""

    description: str
    read: Callable[[ImageRef], Instances]


def find_instances(truth: ImageSet, images: tuple[ImageRef, ...], ignore_index: int) -> InstanceSource:
    """Choose the best source of objects that an image set has for all of the given images.

    COCO annotations, crowds left out; else VOC's `SegmentationObject`, where it holds every image; else the
    8-connected regions of each class in the label maps. Raises `InputError` for a set without labels.
    """
    labels = truth.labels
    if labels is None:
        raise InputError(f"split {truth.name} has no labels, so no objects; give a labelled data set")
    if isinstance(labels, CocoLabels):
        return InstanceSource(f"COCO annotations of {labels.source.name}, crowds left out", _CocoObjects(labels))
    folder = _object_folder(labels)
    num_absent = 0 if folder is None else sum(not (folder / f"{ref.stem}.png").is_file() for ref in images)
    if folder is not None and not num_absent:
        return InstanceSource("VOC object maps (SegmentationObject)", _VocObjects(folder))
    reason = "" if folder is None else f" (SegmentationObject lacks {num_absent} of {len(images)} images)"
    description = f"connected regions of each class in the label maps{reason}; touching objects count as one"
    return InstanceSource(description, _Regions(labels, ignore_index))


def connected_regions(label_map: LabelMap, ignore_index: int = IGNORE) -> tuple[MaskArray, ...]:
    """Return the 8-connected regions of each class but 0 and `ignore_index`, by class, then in reading order."""
    regions = []
    for label in np.unique(label_map[(label_map != 0) & (label_map != ignore_index)]):
        num_parts, parts = cv2.connectedComponents((label_map == label).astype(np.uint8), connectivity=8)
        regions += [parts == part for part in range(1, num_parts)]
    return tuple(regions)


def _object_folder(labels: LabelReader) -> Path | None:
    if not isinstance(labels, VocLabels) or not labels.folders:
        return None
    folder = labels.folders[0].parent / "SegmentationObject"
    return folder if folder.is_dir() else None


@dataclass(frozen=True)
class _CocoObjects:
    """Reads the annotations as they are; `CocoLabels` itself paints them over one another."""

    labels: CocoLabels

    def __call__(self, ref: ImageRef) -> Instances:
        height, width, annotations = json.loads(zlib.decompress(self.labels.records[ref.stem]))
        masks = []
        for _, is_crowd, segmentation, identifier in annotations:
            try:
                mask = segment_to_mask(segmentation, height, width)
            except SegmentError as error:
                raise InputError(
                    f"annotation {identifier} of image {ref.stem} in {self.labels.source} has {error}; "
                    "correct or remove it"
                ) from error
            if not is_crowd and mask.any():
                masks.append(mask)
        return Instances(tuple(masks), np.zeros((height, width), dtype=np.bool_))


@dataclass(frozen=True)
class _VocObjects:
    folder: Path

    def __call__(self, ref: ImageRef) -> Instances:
        objects = read_label_map(self.folder / f"{ref.stem}.png")
        identities = np.unique(objects[(objects != 0) & (objects != IGNORE)])
        return Instances(tuple(objects == identity for identity in identities), objects == IGNORE)


@dataclass(frozen=True)
class _Regions:
    labels: LabelReader
    ignore_index: int

    def __call__(self, ref: ImageRef) -> Instances:
        label_map = self.labels(ref)
        return Instances(connected_regions(label_map, self.ignore_index), label_map == self.ignore_index)
