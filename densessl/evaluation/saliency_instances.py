"""The objects of an image as separate masks: from COCO annotations, VOC object maps, or connected regions."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densessl.data.coco import CocoLabels
from densessl.data.coco_segments import SegmentError, segment_to_mask
from densessl.data.label_maps import read_label_map
from densessl.data.voc import VocLabels
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.image_objects import Instances, connected_regions
from densessl.structures import IGNORE, ImageRef, ImageSet, LabelReader


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
    source = find_annotations(truth, images)
    if source is not None:
        return source
    labels = truth.labels
    if labels is None:
        raise InputError(f"split {truth.name} has no labels, so no objects; give a labelled data set")
    num_absent = _num_without_objects(labels, images)
    reason = f" (SegmentationObject lacks {num_absent} of {len(images)} images)" if num_absent else ""
    description = f"connected regions of each class in the label maps{reason}; touching objects count as one"
    return InstanceSource(description, _Regions(labels, ignore_index))


def find_annotations(truth: ImageSet, images: tuple[ImageRef, ...]) -> InstanceSource | None:
    """Return the objects that were annotated as such, for all of the given images; None where there are none."""
    labels = truth.labels
    if isinstance(labels, CocoLabels):
        return InstanceSource(f"COCO annotations of {labels.source.name}, crowds left out", _CocoObjects(labels))
    folder = _object_folder(labels)
    if folder is None or _num_without_objects(labels, images):
        return None
    return InstanceSource("VOC object maps (SegmentationObject)", _VocObjects(folder))


def open_object_maps(folder: Path) -> InstanceSource:
    """Return the objects of a folder of object maps as VOC has them: 0 background, 1.. objects, 255 ignored.

    Raises `MissingInputError` where there is no folder.
    """
    if not folder.is_dir():
        raise MissingInputError(
            f"no folder {folder}; expected one PNG of object numbers per image, <folder>/<stem>.png"
        )
    return InstanceSource(f"object maps of {folder.name}", _VocObjects(folder))


def _num_without_objects(labels: LabelReader | None, images: tuple[ImageRef, ...]) -> int:
    """Return how many images have no object map in the folder of object maps, 0 where there is no such folder."""
    folder = _object_folder(labels)
    return 0 if folder is None else sum(not (folder / f"{ref.stem}.png").is_file() for ref in images)


def _object_folder(labels: LabelReader | None) -> Path | None:
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
        masks, own_labels = [], []
        for label, is_crowd, segmentation, identifier in annotations:
            try:
                mask = segment_to_mask(segmentation, height, width)
            except SegmentError as error:
                raise InputError(
                    f"annotation {identifier} of image {ref.stem} in {self.labels.source} has {error}; "
                    "correct or remove it"
                ) from error
            if not is_crowd and mask.any():
                masks.append(mask)
                own_labels.append(int(label))
        return Instances(tuple(masks), np.zeros((height, width), dtype=np.bool_), tuple(own_labels))


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
