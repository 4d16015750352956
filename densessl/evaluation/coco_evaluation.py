"""COCO's evaluation of masks against masks, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densessl.structures import MaskArray

RunLengths = dict[str, Any]  # COCO's compressed run lengths of one mask


@dataclass(frozen=True)
class CocoMask:
    """A mask as run lengths; `category` is 1 or more, `score` orders predicted masks."""

    run_lengths: RunLengths
    category: int = 1
    score: float = 1.0


@dataclass(frozen=True)
class CocoImage:
    """The objects and the predicted masks of one image of that (height, width)."""

    size: tuple[int, int]
    objects: tuple[CocoMask, ...]
    found: tuple[CocoMask, ...]


@dataclass(frozen=True)
class CocoCurves:
    """What COCO's evaluation accumulates, over masks of any area; -1 where a category has no object.

    precision: (10 thresholds of IoU 0.50, 0.55, ..., 0.95; 101 recalls; categories) with the most masks an image.
    recall: (thresholds, categories, budgets).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def encode_mask(mask: MaskArray) -> RunLengths:
    """Return the run lengths of a mask (height, width)."""
    encoded: RunLengths = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return encoded


def evaluate_masks(images: Sequence[CocoImage], num_categories: int, budgets: Sequence[int]) -> CocoCurves:
    """Match predicted masks to objects of their category, best scores first, and accumulate as `COCOeval` does.

    budgets: predicted masks of an image and category that count, rising.
    """
    truth = _coco(images, [image.objects for image in images], num_categories)
    found = _coco(images, [image.found for image in images], num_categories)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
        evaluation = COCOeval(truth, found, "segm")
        evaluation.params.maxDets = list(budgets)
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # all
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
        evaluation.accumulate()
    return CocoCurves(evaluation.eval["precision"][:, :, :, 0, -1], evaluation.eval["recall"][:, :, 0, :])


def _coco(images: Sequence[CocoImage], masks: Sequence[Sequence[CocoMask]], num_categories: int) -> COCO:
    annotations: list[dict[str, Any]] = []
    for number, group in enumerate(masks, start=1):
        for mask in group:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": mask.category,
                    "segmentation": mask.run_lengths,
                    "area": float(run_lengths.area(mask.run_lengths)),
                    "iscrowd": 0,
                    "score": mask.score,
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": number, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": str(number)} for number in range(1, num_categories + 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
