"""A card for each number of a benchmark: the protocol, what was fitted where, which labels touched what."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densessl.commands.cluster_output import provenance_of
from densessl.commands.protocol_data import ProtocolData
from densessl.commands.protocol_result import ProtocolResult, ProtocolSettings
from densessl.commands.protocol_runs import NamedProtocol, splits_of
from densessl.errors import InputError
from densessl.evaluation.bootstrap import ImageTotals, PairedBootstrap, compare_paired
from densessl.files import read_json, write_atomically, write_json
from densessl.training.run_folder import plain

_EXPECTED = "a card of `benchmark`"
_NO_MASKS = "none (the protocol uses no masks)"


@dataclass(frozen=True)
class Card:
    """A card on the disk: its content, and where it lies (`path`.npz beside it holds the counts of each image)."""

    path: Path
    content: dict[str, Any]


def card_identity(protocol: NamedProtocol, data: ProtocolData, settings: ProtocolSettings) -> dict[str, Any]:
    """Return everything that a card's number follows from; a card of the same identity is not made again."""
    identity = {
        **data.identity(splits_of(protocol, data)),
        "protocol": protocol,
        "seeds": list(settings.seeds),
        "num_resamples": settings.num_resamples,
        **({"instances": True} if settings.instances else {}),
    }
    content: dict[str, Any] = json.loads(json.dumps(plain(identity)))
    return content


def write_card(
    folder: Path,
    result: ProtocolResult,
    identity: dict[str, Any],
    data: ProtocolData,
    seconds: float,
    environment: dict[str, Any],
) -> Card:
    """Write a result as `<protocol>.json` and, for later comparisons, the counts of each image as `<protocol>.npz`."""
    content = plain(
        {
            "name": result.name,
            "description": result.description,
            "source": result.source,
            "miou": result.miou,
            "image_size_px": result.image_size_px,
            "fitted": result.fitted,
            "matching": result.matching,
            "labels": labels_that_touched(result, data),
            "seeds": identity["seeds"] if result.repeated is not None else identity["seeds"][:1],
            "scores": result.scores_json(),
            "class_names": [data.scored.class_names[label] for label in result.scores.scores.classes],
            "num_images": len(result.scores.stems),
            "left_out": [{"stem": item.stem, "reason": item.reason} for item in result.left_out],
            "notes": result.notes,
            "seconds": seconds,
            "identity": identity,
            "environment": environment,
        }
    )
    totals = result.scores.totals
    is_averaged = totals.is_averaged if totals.is_averaged is not None else np.ones(totals.right.shape[1], dtype=bool)
    arrays = {
        "right": totals.right,
        "labelled": totals.labelled,
        "predicted": totals.predicted,
        "is_averaged": is_averaged,
        "stems": np.array(result.scores.stems),
    }

    def write(path: Path) -> None:
        np.savez_compressed(path, allow_pickle=False, **arrays)

    path = folder / f"{result.name}.json"
    write_atomically(path.with_suffix(".npz"), write)
    write_json(path, content)  # last: a card is there when its counts are
    return Card(path, content)


def finished_card(folder: Path, name: str, identity: dict[str, Any]) -> Card | None:
    """Return the card of that identity, None where there is none, or where an encoder cannot be told from others."""
    path = folder / f"{name}.json"
    if identity["fingerprint"] is None or not path.is_file() or not path.with_suffix(".npz").is_file():
        return None
    card = read_card(path)
    return card if card.content["identity"] == identity else None


def read_card(path: Path) -> Card:
    """Read a card; raises `InputError` for a file that is none."""
    content = read_json(path, _EXPECTED)
    if not isinstance(content, dict) or not {"name", "miou", "scores", "labels", "identity", "seconds"} <= set(content):
        raise InputError(f"{path} is not {_EXPECTED}; remove it, or choose another folder")
    return Card(path, content)


def compare_cards(card: Card, other: Path, num_resamples: int, seed: int) -> PairedBootstrap:
    """Compare a card with that of the same protocol in another benchmark's folder, on the same resamples of images.

    Raises:
        InputError: no such card there, or one of other settings or images.
    """
    path = other / "cards" / card.path.name
    theirs = read_card(path)
    for key in ("protocol", "classes"):
        if theirs.content["identity"].get(key) != card.content["identity"][key]:
            raise InputError(f"{path} is of another {key}; compare numbers of one protocol and the same classes")
    totals, stems = _read_totals(card.path)
    other_totals, other_stems = _read_totals(path)
    if stems != other_stems:
        raise InputError(
            f"{path} scores {len(other_stems)} images and this benchmark {len(stems)}, not all of them the same; look "
            "at the images left out"
        )
    return compare_paired(totals, other_totals, num_resamples, seed, str(other))


def labels_that_touched(result: ProtocolResult, data: ProtocolData) -> dict[str, Any]:
    """Say which labels touched backbone, masks, fit, selection and matching."""
    foreground = data.settings.foreground if result.uses_masks else "all"
    provenance = provenance_of(data.encoder, foreground or "all", data.settings.masks, scores=None)
    if not result.uses_masks:
        provenance = replace(provenance, masks=_NO_MASKS)
    return {
        "backbone": provenance.backbone,
        "masks": provenance.masks,
        "fit": result.fit_labels,
        "selection": result.selection,
        "selection_of_encoder": provenance.selection,
        "matching": result.matching,
        "notes": list(provenance.notes),
    }


def _read_totals(path: Path) -> tuple[ImageTotals, list[str]]:
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            right, labelled, predicted = (
                np.asarray(arrays[name], dtype=np.int64) for name in ("right", "labelled", "predicted")
            )
            is_averaged = np.asarray(arrays["is_averaged"], dtype=np.bool_)
            return ImageTotals(right, labelled, predicted, is_averaged), [str(stem) for stem in arrays["stems"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path.with_suffix('.npz')} cannot be read ({error}); run that benchmark again") from error
