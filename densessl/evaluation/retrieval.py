"""Retrieval: every mask takes the class of the most similar mask of the training images."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes
from densessl.evaluation.labelled_protocols import RetrievalProtocol
from densessl.evaluation.patch_memory import unit_rows
from densessl.evaluation.segmentation import NO_CLUSTER, paint
from densessl.structures import InstanceMap, LabelMap, Rejection

BACKGROUND = 0

NO_CLASS = -1
"""The class of a mask that has no prototype; it is painted as background."""


@dataclass(frozen=True)
class MaskVectors:
    """The predicted masks of one image with their prototypes.

    vectors: float (num_masks, dim), of masks 1, 2, ... of `instances`; has_prototype: bool (num_masks,).
    instances: (height, width), 0 background, m for mask m.
    """

    stem: str
    vectors: NDArray[np.float32]
    has_prototype: NDArray[np.bool_]
    instances: InstanceMap


@dataclass(frozen=True)
class RetrievalBank:
    """Prototypes of training masks with their classes.

    vectors: float32 (num, dim), unit length. classes: int64 (num,), class indices, none of them background. stems: of
    their images. left_out: masks that gave no entry, and why. notes: what a reader must know, in words.
    """

    vectors: NDArray[np.float32]
    classes: NDArray[np.int64]
    stems: tuple[str, ...]
    left_out: tuple[Rejection, ...]
    notes: tuple[str, ...]


def build_bank(images: Iterable[tuple[MaskVectors, LabelMap]], classes: Classes) -> RetrievalBank:
    """Make the bank: each mask's prototype with the majority true class inside the mask, background excluded.

    Args:
        images: the training images with their label maps, of the size of the masks; read one at a time.
        classes: which classes can be retrieved; those of the others, the ignored value and the background (whether it
            is listed or not) have no vote. A mask without any pixel that has one is left out.

    Raises:
        InputError: a prototype that is not finite, a label outside the range or a label map of another size than the
            masks (each names the image); no entry at all.
    """
    vectors: list[NDArray[np.float32]] = []
    found: list[int] = []
    stems: list[str] = []
    left_out: list[Rejection] = []
    for masks, labels in images:
        _check_masks(masks)
        votes = _votes(masks, labels, classes)
        for number, (vector, has_prototype) in enumerate(zip(masks.vectors, masks.has_prototype, strict=True)):
            if not has_prototype:
                left_out.append(Rejection(masks.stem, f"mask {number + 1} has no prototype"))
            elif not votes[number].any():
                left_out.append(Rejection(masks.stem, f"mask {number + 1} holds no pixel of the classes that count"))
            else:
                vectors.append(vector)
                found.append(_majority(votes[number], classes))
                stems.append(masks.stem)
    if not vectors:
        raise InputError(
            "no training mask has a prototype and a pixel of the classes that count, so there is nothing to retrieve "
            f"({len(left_out)} masks were left out); check masks, labels and classes"
        )
    absent = sorted(set(classes.labels) - set(found) - {BACKGROUND})
    notes = (f"classes {absent} have no mask in the bank and are never retrieved",) if absent else ()
    return RetrievalBank(
        unit_rows(np.stack(vectors)), np.array(found, dtype=np.int64), tuple(stems), tuple(left_out), notes
    )


def retrieve_classes(bank: RetrievalBank, masks: MaskVectors) -> NDArray[np.int64]:
    """Return the class of the entry that is nearest by cosine to each mask, int64 (num_masks,).

    Of equals the first entry of the bank; `NO_CLASS` for a mask without prototype. Raises `InputError`, naming the
    image, for prototypes that are not finite or of another dimension than the bank's.
    """
    _check_masks(masks)
    if len(masks.vectors) and masks.vectors.shape[1] != bank.vectors.shape[1]:
        raise InputError(
            f"prototypes of image {masks.stem!r} have {masks.vectors.shape[1]} dimensions, those of the bank "
            f"{bank.vectors.shape[1]}; use one encoder for both"
        )
    classes = np.full(len(masks.vectors), NO_CLASS, dtype=np.int64)
    for number in np.flatnonzero(masks.has_prototype).tolist():
        query = unit_rows(masks.vectors[number : number + 1])[0]
        classes[number] = bank.classes[int((bank.vectors @ query).argmax())]
    return classes


def predict_by_retrieval(bank: RetrievalBank, masks: MaskVectors, size: tuple[int, int] | None = None) -> LabelMap:
    """Return the label map of the retrieved classes, at `size` (height, width; nearest), or at that of the masks."""
    clusters = [NO_CLUSTER if label == NO_CLASS else label - 1 for label in retrieve_classes(bank, masks).tolist()]
    return paint(masks.instances, clusters, size)


def scored_classes(protocol: RetrievalProtocol, classes: Classes) -> tuple[int, ...]:
    """Return the classes whose pixels count: those of the protocol, or all of `classes`, background first if listed.

    Raises `InputError` where the data set has none of the protocol's classes.
    """
    listed = [label for label in classes.labels if label != BACKGROUND]
    if protocol.classes is not None:
        listed = [label for label in protocol.classes if label in listed]
    if not listed:
        raise InputError(
            f"protocol {protocol.name} counts classes {list(protocol.classes or ())}, none of which is among "
            f"{list(classes.labels)}; use another protocol or other classes"
        )
    return (BACKGROUND, *listed) if BACKGROUND in classes.labels else tuple(listed)


def averaged_classes(protocol: RetrievalProtocol, scored: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return which of `scored_classes` means are of, None for all: without the background where the protocol says so.

    Background pixels that a mask covers count against the mask's class in either case, as published.
    """
    is_apart = not protocol.has_background and BACKGROUND in scored
    return tuple(label for label in scored if label != BACKGROUND) if is_apart else None


def _votes(masks: MaskVectors, labels: LabelMap, classes: Classes) -> NDArray[np.int64]:
    """Return how many pixels of each class lie in each mask, (num_masks, num_classes), none of background."""
    if labels.shape != masks.instances.shape:
        raise InputError(
            f"labels of image {masks.stem!r} have shape {labels.shape}, its masks {masks.instances.shape}; resize the "
            "masks (nearest neighbour) to the labels"
        )
    columns = classes.columns(labels, masks.stem)
    has_vote = (columns >= 0) & (labels != BACKGROUND) & (masks.instances > 0)
    num_masks, num_classes = len(masks.vectors), len(classes)
    pairs = (masks.instances[has_vote].astype(np.int64) - 1) * num_classes + columns[has_vote]
    return np.bincount(pairs, minlength=num_masks * num_classes).reshape(num_masks, num_classes)


def _majority(votes: NDArray[np.int64], classes: Classes) -> int:
    """Return the class of most votes, of equals the highest class, as in the published code."""
    return max((count, label) for count, label in zip(votes.tolist(), classes.labels, strict=True))[1]


def _check_masks(masks: MaskVectors) -> None:
    if len(masks.vectors) != len(masks.has_prototype) or int(masks.instances.max(initial=0)) > len(masks.vectors):
        raise InputError(
            f"image {masks.stem!r} has mask {int(masks.instances.max(initial=0))}, {len(masks.vectors)} prototypes and "
            f"{len(masks.has_prototype)} marks of which are there; give one each for every mask"
        )
    if not np.isfinite(masks.vectors[masks.has_prototype]).all():
        raise InputError(
            f"a prototype of image {masks.stem!r} holds NaN or infinity; check the weights the features come from (did "
            "training diverge?)"
        )
