"""The objects of labelled images by which proposals and prompted masks are measured."""

from collections.abc import Callable, Sequence

from densessl.data.coco import CocoLabels
from densessl.data.object_masks import open_coco_objects
from densessl.evaluation.image_objects import Instances, connected_regions
from densessl.structures import IGNORE, ImageRef, ImageSet

SMALLEST_SHARE = 0.01
"""Of an image: smaller objects are not scored."""


def open_truth(image_set: ImageSet, images: Sequence[ImageRef]) -> Callable[[ImageRef], Instances]:
    """Return what reads the objects of an image that are scored, those that cover `SMALLEST_SHARE` of it or more.

    Of COCO the annotated instances, of other labels the connected regions of a class; void pixels are ignored.
    """
    labels = image_set.labels
    if labels is None:
        raise SystemExit(f"split {image_set.name} has no labels to score by")
    annotated = open_coco_objects(labels.source, images) if isinstance(labels, CocoLabels) else None

    def read(ref: ImageRef) -> Instances:
        label_map = labels(ref)
        if annotated is None:
            masks = connected_regions(label_map)
        else:
            masks = annotated.read(ref, (label_map.shape[0], label_map.shape[1]))
        return Instances(tuple(mask for mask in masks if mask.mean() >= SMALLEST_SHARE), label_map == IGNORE)

    return read
