"""Reads the scores and settings that the evaluation wrote as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.files import read_json
from densessl.report.contents import ClassScore, Scores
from densessl.structures import Provenance

MAX_LISTED = 12
"""Longer lists in settings are shown by their length."""

SHOWN_SETTINGS = (
    "foreground", "masks", "features", "weights", "match", "num_images", "pixel_accuracy", "mean_accuracy",
    "frequency_weighted_iou", "adjusted_rand_index", "normalised_mutual_information", "labels_used",
    "absent_class_rule",
)  # fmt: skip
"""Keys of scores.json that are shown beside the protocol."""


def read_scores(folder: Path) -> Scores | None:
    """Read `scores.json` of a folder of clusters; `None` where nothing was scored for want of labels.

    `iou` and `class_names` follow the order of `classes`; `class_names` may also hold the names of all class
    ids.
    """
    path = folder / "scores.json"
    if not path.is_file():
        return None
    values = read_json(path, "the scores of a segmentation")
    if not isinstance(values, dict) or not isinstance(values.get("miou"), (int, float)):
        raise InputError(f"{path} has no number under 'miou'; score the segmentation again")
    classes = _classes(values, path)
    protocol = values.get("protocol")
    settings = plain_settings(protocol if isinstance(protocol, Mapping) else {"protocol": protocol})
    extra = {key: values[key] for key in SHOWN_SETTINGS if values.get(key) is not None}
    return Scores(
        miou=float(values["miou"]),
        miou_std=values.get("miou_std"),
        miou_per_seed=tuple(values.get("miou_per_seed") or ()),
        classes=classes,
        assignment=_assignment(values.get("assignment")),
        protocol=settings | plain_settings(extra),
        provenance=read_provenance(values.get("provenance")),
        confusion=_confusion(values.get("confusion"), len(classes), path),
    )


def read_provenance(values: Any) -> Provenance | None:
    """Return which labels touched a result, as recorded; `None` where nothing was."""
    if not isinstance(values, Mapping):
        return None
    known = {key: str(values[key]) for key in ("backbone", "masks", "selection", "matching") if key in values}
    return Provenance(**known, notes=tuple(str(note) for note in values.get("notes") or ()))


def plain_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested settings to `{"a.b": "value"}`; lists are joined by commas, absent values left out."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= plain_settings(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            flat[name] = ", ".join(map(str, value)) if len(value) <= MAX_LISTED else f"{len(value)} values"
        elif isinstance(value, bool):
            flat[name] = "yes" if value else "no"
        elif value is not None:
            flat[name] = f"{value:.6g}" if isinstance(value, float) else str(value)
    return flat


def _classes(values: Mapping[str, Any], path: Path) -> tuple[ClassScore, ...]:
    iou = values.get("iou") or []
    if isinstance(iou, Mapping):
        class_ids = [int(key) for key in iou]
        iou = list(iou.values())
    else:
        class_ids = [int(value) for value in values.get("classes") or range(len(iou))]
    names = [str(name) for name in values.get("class_names") or []]
    if len(iou) != len(class_ids):
        raise InputError(f"{path} has {len(iou)} values of 'iou' for {len(class_ids)} 'classes'; score again")
    by_position = len(names) == len(class_ids)
    return tuple(
        ClassScore(class_id, _name(names, index if by_position else class_id, class_id), value)
        for index, (class_id, value) in enumerate(zip(class_ids, iou, strict=True))
    )


def _name(names: list[str], position: int, class_id: int) -> str:
    return names[position] if 0 <= position < len(names) else f"class {class_id}"


def _assignment(value: Any) -> dict[int, int | None]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value or ())
    return {int(key): None if class_id is None else int(class_id) for key, class_id in pairs}


def _confusion(value: Any, num_classes: int, path: Path) -> NDArray[np.float64] | None:
    if value is None:
        return None
    confusion = np.asarray(value, dtype=np.float64)
    if confusion.shape not in {(num_classes, num_classes), (num_classes, num_classes + 1)}:
        raise InputError(
            f"{path} has a confusion matrix of shape {confusion.shape} for {num_classes} classes; expected "
            f"{(num_classes, num_classes)}, or one more column for pixels predicted as no class; score again"
        )
    return confusion
