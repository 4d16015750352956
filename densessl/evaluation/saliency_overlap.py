"""How well proposed masks cover the objects of images: best overlap, CorLoc and COCO's average recall."""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densessl.errors import InputError
from densessl.structures import MaskArray

BUDGETS = (1, 10, 100)
"""Proposals of an image that count, best scores first, for average recall."""

LOCALISED = 0.5
"""IoU of boxes from which on CorLoc counts an object as found."""

RunLengths = dict[str, Any]  # COCO's compressed run lengths of one mask


@dataclass(frozen=True)
class Candidates:
    """The proposals and the objects of one image, masks as COCO run lengths; made by `make_candidates`."""

    proposals: tuple[RunLengths, ...]
    proposal_scores: tuple[float, ...]
    objects: tuple[RunLengths, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class ProposalScores:
    """How well proposals cover objects, whatever their classes; fractions in [0, 1].

    best_overlap: mean over all objects of the highest mask IoU that any proposal of the image has with it.
    corloc: share of images with objects in which the box of the proposal with the highest score has an IoU of at
        least 0.5 with the box of an object (CorLoc; Deselaers et al., IJCV 2012).
    ar_1, ar_10, ar_100: recall of objects averaged over the mask IoUs 0.50, 0.55, ..., 0.95, with that many
        proposals an image, as COCO computes it (`COCOeval`, useCats=0, area all).
    num_images: images with at least one object; others count for nothing.
    num_images_without_proposals: of these, those without any proposal: their objects are missed.
    """

    best_overlap: float
    corloc: float
    ar_1: float
    ar_10: float
    ar_100: float
    num_images: int
    num_objects: int
    num_proposals: int
    num_images_without_proposals: int
    per_object: tuple[float, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain values for JSON, without the overlap of each object."""
        content = asdict(self)
        content.pop("per_object")
        return content


def make_candidates(
    proposals: Sequence[MaskArray],
    proposal_scores: Sequence[float],
    objects: Sequence[MaskArray],
    ignored: MaskArray,
) -> Candidates:
    """Bring the masks of one image into run lengths; pixels of `ignored` (height, width) are cut out of all of them.

    Raises `InputError` where a proposal has another size, or the numbers of proposals and scores differ.
    """
    if len(proposals) != len(proposal_scores):
        raise InputError(f"{len(proposals)} proposals have {len(proposal_scores)} scores; give one for each")
    for mask in (*proposals, *objects):
        if mask.shape != ignored.shape:
            raise InputError(
                f"a mask is {mask.shape[0]}x{mask.shape[1]} and its image {ignored.shape[0]}x{ignored.shape[1]} "
                "(height x width); make proposals and labels at the same size"
            )
    return Candidates(
        tuple(_encode(mask & ~ignored) for mask in proposals),
        tuple(float(score) for score in proposal_scores),
        tuple(_encode(mask & ~ignored) for mask in objects),
        (ignored.shape[0], ignored.shape[1]),
    )


def score_proposals(images: Iterable[Candidates]) -> ProposalScores:
    """Score the proposals of a data set. Raises `InputError` where no image has an object."""
    with_objects = [image for image in images if image.objects]
    if not with_objects:
        raise InputError("no image has an object, so proposals cannot be scored; check the labels")
    overlaps = np.concatenate([best_overlaps(image) for image in with_objects])
    recalls = average_recalls(with_objects)
    return ProposalScores(
        best_overlap=float(overlaps.mean()),
        corloc=float(np.mean([is_localised(image) for image in with_objects])),
        ar_1=recalls[0],
        ar_10=recalls[1],
        ar_100=recalls[2],
        num_images=len(with_objects),
        num_objects=len(overlaps),
        num_proposals=sum(len(image.proposals) for image in with_objects),
        num_images_without_proposals=sum(not image.proposals for image in with_objects),
        per_object=tuple(overlaps.tolist()),
    )


def best_overlaps(image: Candidates) -> NDArray[np.float64]:
    """Return the highest mask IoU that any proposal has with each object, (num_objects,); 0 without proposals."""
    if not image.proposals or not image.objects:
        return np.zeros(len(image.objects))
    overlaps = run_lengths.iou(list(image.proposals), list(image.objects), [0] * len(image.objects))
    return np.asarray(overlaps, dtype=np.float64).max(axis=0)


def is_localised(image: Candidates) -> bool:
    """Say whether the box of the proposal with the highest score (the first of equals) has an IoU of at least 0.5
    with the box of an object."""
    if not image.proposals or not image.objects:
        return False
    best = image.proposals[int(np.argmax(image.proposal_scores))]
    boxes = run_lengths.toBbox(list(image.objects))
    overlaps = run_lengths.iou(run_lengths.toBbox([best]), boxes, [0] * len(boxes))
    return bool(np.max(overlaps) >= LOCALISED)


def average_recalls(images: Sequence[Candidates]) -> tuple[float, ...]:
    """Return COCO's average recall of the objects, classes aside, with 1, 10 and 100 proposals an image."""
    truth = _coco(images, [image.objects for image in images], None)
    found = _coco(images, [image.proposals for image in images], [image.proposal_scores for image in images])
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
        evaluation = COCOeval(truth, found, "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(BUDGETS)
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # all
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"]  # (num_thresholds, 1, 1, num_budgets)
    return tuple(float(value) for value in recall[:, 0, 0, :].mean(axis=0))


def _coco(
    images: Sequence[Candidates],
    masks: Sequence[Sequence[RunLengths]],
    scores: Sequence[Sequence[float]] | None,
) -> COCO:
    annotations: list[dict[str, Any]] = []
    for number, group in enumerate(masks, start=1):
        for position, mask in enumerate(group):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "segmentation": mask,
                "area": float(run_lengths.area(mask)),
                "iscrowd": 0,
            }
            if scores is not None:
                annotation["score"] = scores[number - 1][position]
            annotations.append(annotation)
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": number, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _encode(mask: MaskArray) -> RunLengths:
    encoded: RunLengths = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return encoded
