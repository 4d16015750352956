"""How well proposed masks cover the objects of images: best overlap, CorLoc and COCO's average recall."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from densessl.errors import InputError
from densessl.evaluation.coco_evaluation import CocoImage, CocoMask, RunLengths, encode_mask, evaluate_masks
from densessl.structures import MaskArray

BUDGETS = (1, 10, 100)
"""Proposals of an image that count, best scores first, for average recall."""

LOCALISED = 0.5
"""IoU of boxes from which on CorLoc counts an object as found."""


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
        tuple(encode_mask(mask & ~ignored) for mask in proposals),
        tuple(float(score) for score in proposal_scores),
        tuple(encode_mask(mask & ~ignored) for mask in objects),
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
    masks = [
        CocoImage(
            image.size,
            tuple(map(CocoMask, image.objects)),
            tuple(
                CocoMask(mask, score=score) for mask, score in zip(image.proposals, image.proposal_scores, strict=True)
            ),
        )
        for image in images
    ]
    recall = evaluate_masks(masks, 1, BUDGETS).recall  # (thresholds, 1, budgets)
    return tuple(float(value) for value in recall[:, 0, :].mean(axis=0))
