"""Which labels touched masks, in words: from the record that the command which made them left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from densessl.data.masks import FILTER_RECORD
from densessl.data.pasted_set import ANNOTATIONS_FILE
from densessl.data.pasted_set import RECORD_FILE as PASTED_FILE
from densessl.data.synthetic import RECORD_FILE as RENDERED_FILE
from densessl.data.synthetic_nested_set import ANNOTATIONS_FILES, NESTED_FORMAT
from densessl.files import read_json

_INNER_NAMES = ("masks", "soft", "proposals.json")
"""What may be given of a folder of `saliency`, `segment` or `filter_masks` in its place."""


def masks_provenance(masks: Path) -> str:
    """Say where masks came from and what supervision that implies.

    Folders that `saliency` (or `pretrain`, or `run`) wrote say it in `saliency.json`, those of `segment` in
    `segment.json`, those of `filter_masks` in `filtered.json`; so it is where their `masks`, `soft` or `proposals.json`
    is given. The objects of `paste` follow the masks that it was given (`pasted.json`), those of
    `synth --scenes nested` are the renderer's (`synth.json`). All others are made elsewhere.
    """
    return _trace(masks, frozenset())


def recorded_supervision(content: Any) -> str | None:
    """Return which labels touched the masks that a `saliency.json` describes; None where it is no such record.

    It stands there under `supervision`. Records of earlier versions lack that, and so does a new one; it then follows
    from the settings and what is known of the weights, and masks made of others (`--method file`) are traced to them.
    """
    return _recorded(content, frozenset())


def automatic_supervision(supervision: str) -> str:
    """Return which labels touched automatic masks; supervision: which trained the promptable model."""
    return f"automatic masks of a promptable model (labels that trained it: {supervision})"


def filtered_supervision(masks: str, model: str) -> str:
    """Return which labels touched masks that a promptable model chose.

    masks, model: which labels are behind them, in words; where those of the model have those of the masks in them, they
    are not said twice.
    """
    return f"{masks}; chosen by a promptable model ({model.replace(masks, 'labels as above')})"


def made_elsewhere(masks: Path) -> str:
    """Return what is known of the labels behind a folder of masks that somebody else made."""
    return f"made elsewhere ({masks.name}); whatever labels made them are theirs"


def _trace(masks: Path, visited: frozenset[Path]) -> str:
    """Return the provenance of masks that those of `visited` were made of; ends where they were made of each other."""
    place = masks.resolve()
    if place in visited:
        return made_elsewhere(masks)
    for folder in _places_of_records(masks):
        record = folder / "saliency.json"
        content = read_json(record, "the settings of `saliency`") if record.is_file() else None
        found = _recorded(content, visited | {place})
        if found is not None:
            return found
        record = folder / "segment.json"
        content = read_json(record, "the record of `segment`") if record.is_file() else None
        match content:
            case {"supervision": str(supervision)}:
                return automatic_supervision(supervision)
        record = folder / FILTER_RECORD
        content = read_json(record, "the record of `filter_masks`") if record.is_file() else None
        match content:
            case {"supervision": str(supervision)}:
                return supervision
    return _scenes_supervision(masks) or made_elsewhere(masks)


def _recorded(content: Any, visited: frozenset[Path]) -> str | None:
    match content:
        case {"settings": {"method": str()}, "supervision": str(supervision)}:
            return supervision
        case {"settings": {"method": "file", "masks": str(source)}}:
            return _trace(Path(source), visited)
        case {"settings": {"method": "self_trained"}, "features": {"supervision": str(supervision)}}:
            return f"self-trained network ({supervision})"
        case {
            "settings": {"method": str(method), "encoder": str(encoder), "weights": weights},
            "features": {"supervision": str(supervision)},
        }:
            source = encoder if weights is None else f"{encoder}, weights {Path(str(weights)).name}"
            return f"fitted to none (estimator {method}); labels that trained its features ({source}): {supervision}"
        case {"settings": {"method": str(method)}}:
            return f"fitted to none (estimator {method}; docs/saliency.md says which labels its design saw)"
    return None


def _places_of_records(masks: Path) -> Iterator[Path]:
    yield masks
    place = masks.absolute()  # a relative path may be `.`
    if place.name in _INNER_NAMES:
        yield place.parent


def _scenes_supervision(masks: Path) -> str | None:
    """Return which labels touched a file of annotations that `paste` or `synth` wrote; None for any other."""
    scenes = masks.resolve().parent.parent
    name = masks.resolve().relative_to(scenes).as_posix()
    is_pasted = name == ANNOTATIONS_FILE and (scenes / PASTED_FILE).is_file()
    content = read_json(scenes / PASTED_FILE, "the record of `paste`") if is_pasted else None
    match content:
        case {"supervision": str(supervision)}:
            return f"{supervision}; objects pasted into other images"
    is_rendered = name in ANNOTATIONS_FILES and (scenes / RENDERED_FILE).is_file()
    content = read_json(scenes / RENDERED_FILE, "the record of `synth`") if is_rendered else None
    match content:
        case {"format": str(found)} if found == NESTED_FORMAT:
            return "exact masks of rendered scenes (synth, nested objects)"
    return None
