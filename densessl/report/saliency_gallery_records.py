"""Reads what the gallery needs of a folder of proposed masks: a few numbers for each image, never its pixels."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError, MissingInputError
from densessl.files import read_json
from densessl.structures import Rejection

_EXPECTED = "a folder that `densessl saliency` has finished"
_EXPECTED_SCORES = "the file that `densessl saliency_metrics --json FILE` writes"


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What is known of one image's mask without opening it.

    `area_share` is its part of the image and `score` the mean of the soft map over it, both in [0, 1]; `num_parts`
    counts its connected parts, `num_edges` the edges of the image that it reaches (0-4).
    """

    stem: str
    area_share: float
    score: float
    num_parts: int
    num_edges: int


@dataclass(frozen=True)
class ProposedMasks:
    """A folder of proposed masks: facts by stem, the score of every part, the rejected images, the settings."""

    folder: Path
    facts: Mapping[str, MaskFacts] = field(repr=False)
    part_scores: NDArray[np.float64] = field(repr=False)
    rejected: tuple[Rejection, ...] = field(repr=False)
    settings: Mapping[str, Any]
    features: Mapping[str, Any] | None = None

    @property
    def num_images(self) -> int:
        return len(self.facts) + len(self.rejected)


@dataclass(frozen=True)
class LabelScores:
    """The IoU of each image's mask with its label, in [0, 1], and the mean over images as the file states it."""

    file_name: str
    ious: Mapping[str, float] = field(repr=False)
    mean_iou: float
    standard_error: float | None
    num_images: int


def read_proposed_masks(folder: Path) -> ProposedMasks:
    """Read `proposals.json`, `rejected.json` and `saliency.json` of a folder, each once.

    Raises `MissingInputError` where one is absent, and `InputError` where one is broken or lists an image twice.
    """
    facts, part_scores = _read_facts(folder / "proposals.json")
    record = read_json(folder / "saliency.json", _EXPECTED)
    settings = record.get("settings") if isinstance(record, dict) else None
    if not isinstance(settings, dict):
        raise InputError(f"{folder / 'saliency.json'} holds no saliency settings; expected {_EXPECTED}")
    features = record.get("features")
    return ProposedMasks(
        folder=folder,
        facts=facts,
        part_scores=part_scores,
        rejected=_read_rejected(folder / "rejected.json"),
        settings=settings,
        features=features if isinstance(features, dict) else None,
    )


def read_label_scores(path: Path, stems: Iterable[str]) -> LabelScores:
    """Read the scores of each image from a file of `saliency_metrics`; `stems` are the images with a mask.

    Raises `MissingInputError` where there is no file, and `InputError` where it holds no such scores, an IoU lies
    outside [0, 1], or none of the images is among them.
    """
    content = read_json(path, _EXPECTED_SCORES)
    try:
        ious = {str(row["stem"]): float(row["iou"]) for row in content["per_image"]}
        mean_iou, error = float(content["iou"]), content["standard_error"]
        standard_error = None if error is None else float(error)
    except (KeyError, TypeError, ValueError) as cause:
        raise InputError(f"{path} holds no scores of single images ({cause!r}); expected {_EXPECTED_SCORES}") from cause
    for stem, iou in [*ious.items(), ("the mean", mean_iou)]:
        if not 0 <= iou <= 1:
            raise InputError(f"{path} gives {stem} the IoU {iou}; IoUs lie in [0, 1]: write the file anew")
    if not ious.keys() & set(stems):
        first = next(iter(ious), "none")
        raise InputError(
            f"{path} scores none of the images that have a mask (its first is {first}); give the scores of these masks"
        )
    return LabelScores(path.name, ious, mean_iou, standard_error, len(ious))


def _read_facts(path: Path) -> tuple[dict[str, MaskFacts], NDArray[np.float64]]:
    """Return the facts of every image, sorted by stem, and the scores of all parts."""
    content = _read_without_masks(path)
    try:
        images = {image["id"]: image for image in content["images"]}
        parts: dict[Any, list[Mapping[str, Any]]] = {identity: [] for identity in images}
        for part in content["annotations"]:
            parts[part["image_id"]].append(part)
        facts = [_facts(image, parts[identity]) for identity, image in images.items()]
        scores = np.array([float(part["score"]) for part in content["annotations"]], dtype=np.float64)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise InputError(f"{path} is no list of proposals ({error!r}); expected {_EXPECTED}") from error
    if not np.isfinite(scores).all():
        raise InputError(f"{path} holds a score that is no finite number; make the proposals again")
    by_stem = {item.stem: item for item in sorted(facts, key=lambda item: item.stem)}
    if len(by_stem) != len(content["images"]):
        raise InputError(f"{path} lists an image twice; make the proposals again")
    return by_stem, scores


def _read_without_masks(path: Path) -> Any:
    """Read a file of proposals, dropping each encoded mask as it is parsed: they are nearly all of its size."""
    if not path.is_file():
        raise MissingInputError(f"no file {path}; expected {_EXPECTED}")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_drop_mask)
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); expected {_EXPECTED}") from error


def _drop_mask(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key not in {"segmentation", "counts"}}


def _facts(image: Mapping[str, Any], parts: list[Mapping[str, Any]]) -> MaskFacts:
    """Sum up one image: the parts are disjoint, so areas add up and scores average by area."""
    height, width = int(image["height"]), int(image["width"])
    areas = [int(part["area"]) for part in parts]
    weighted = math.fsum(area * float(part["score"]) for area, part in zip(areas, parts, strict=True))
    edges: set[str] = set()
    for part in parts:
        edges |= _edges(part["bbox"], height, width)
    return MaskFacts(
        stem=str(image["stem"]),
        area_share=sum(areas) / (height * width),
        score=weighted / sum(areas) if sum(areas) else 0.0,
        num_parts=len(parts),
        num_edges=len(edges),
    )


def _edges(box: Any, height: int, width: int) -> set[str]:
    """Return the edges of the image that a COCO box (left, top, width, height; pixels) reaches."""
    left, top, box_width, box_height = (float(value) for value in box)
    reached = {
        "left": left <= 0,
        "top": top <= 0,
        "right": left + box_width >= width,
        "bottom": top + box_height >= height,
    }
    return {name for name, is_reached in reached.items() if is_reached}


def _read_rejected(path: Path) -> tuple[Rejection, ...]:
    try:
        rejected = [Rejection(str(row["stem"]), str(row["reason"])) for row in read_json(path, _EXPECTED)]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of stems and reasons ({error!r}); expected {_EXPECTED}") from error
    return tuple(sorted(rejected, key=lambda item: item.stem))
