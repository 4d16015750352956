"""A card for each number of a benchmark: the protocol, what was fitted where, which labels touched what."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densessl.commands.cluster_output import provenance_of
from densessl.commands.protocol_data import ProtocolData
from densessl.commands.protocol_description import NamedProtocol
from densessl.commands.protocol_result import ProtocolResult, ProtocolSettings
from densessl.commands.protocol_runs import NEED_FOREGROUND, seeds_of, splits_of
from densessl.errors import InputError
from densessl.evaluation.bootstrap import ImageTotals, PairedBootstrap, bootstrap_or_none, compare_paired
from densessl.files import read_json, write_atomically, write_json
from densessl.training.run_folder import plain

_EXPECTED = "a card of `benchmark`"
_COMPARED = {
    "protocol": "protocol, or of other settings of it",
    "classes": "list of classes",
    "foreground": "foreground",
    "masks": "folder of masks, or of masks that were changed",
    "train_masks": "folder of training masks, or of masks that were changed",
    "split": "scored split",
    "splits": "list of images",
}
"""Parts of an identity in which compared cards agree, and what each is called."""

_DIGEST_LENGTH = 64
_NO_MASKS = "none (the protocol uses no masks)"


@dataclass(frozen=True)
class Card:
    """A card on the disk: its content, and where it lies (`path`.npz beside it holds the counts of each image)."""

    path: Path
    content: dict[str, Any]


def card_identity(protocol: NamedProtocol, data: ProtocolData, settings: ProtocolSettings) -> dict[str, Any]:
    """Return everything that a card's scores follow from; a card of the same identity is not made again.

    Resamples are not part of it: intervals follow from the counts of each image, which lie beside the card.
    """
    identity = {
        **data.identity(splits_of(protocol, data), has_foreground=protocol.name in NEED_FOREGROUND),
        "protocol": protocol,
        "seeds": list(seeds_of(protocol, settings)),
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
            "seeds": identity["seeds"],
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


def finished_card(folder: Path, name: str, identity: dict[str, Any], settings: ProtocolSettings) -> Card | None:
    """Return the card of that identity, None where there is none, or where an encoder cannot be told from others.

    Where other resamples were asked for than those of its interval, the card is written again with a new interval.
    """
    path = folder / f"{name}.json"
    if identity["fingerprint"] is None or not path.is_file() or not path.with_suffix(".npz").is_file():
        return None
    card = read_card(path)
    return _with_resamples(card, settings) if card.content["identity"] == identity else None


def read_card(path: Path) -> Card:
    """Read a card; raises `InputError` for a file that is none."""
    content = read_json(path, _EXPECTED)
    if not isinstance(content, dict) or not {"name", "miou", "scores", "labels", "identity", "seconds"} <= set(content):
        raise InputError(f"{path} is not {_EXPECTED}; remove it, or choose another folder")
    return Card(path, content)


def cards_of(folder: Path, data: ProtocolData) -> dict[str, Card]:
    """Return the cards of a folder, by protocol, that score this encoder on these images and classes.

    Their settings may be any. None where the encoder cannot be told from others.
    """
    split = data.settings.split
    wanted = json.loads(json.dumps(plain(data.identity([split], has_foreground=False))))
    same = ("encoder", "fingerprint", "precision", "data", "split", "classes")
    found = {}
    for path in sorted(folder.glob("*.json")) if wanted["fingerprint"] is not None else []:
        card = read_card(path)
        identity = card.content["identity"]
        is_same = all(identity.get(key) == wanted[key] for key in same)
        if is_same and identity["splits"][split] == wanted["splits"][split] and path.with_suffix(".npz").is_file():
            found[path.stem] = card
    return found


def check_own_folder(out: Path, data: ProtocolData) -> None:
    """Refuse a folder that holds the benchmark of another encoder or data set; it would lose its features and cards.

    Raises:
        InputError: it does, or it holds one and the encoder has no fingerprint.
    """
    path = out / "benchmark.json"
    if not path.is_file():
        return
    expected = "what `benchmark` writes; choose another --out"
    content = read_json(path, expected)
    if not isinstance(content, dict) or not isinstance(content.get("encoder"), dict) or "data" not in content:
        raise InputError(f"{path} is not {expected}")
    opened = data.encoder.opened
    found = {"data": content["data"], **content["encoder"]}
    wanted = {
        "description": opened.description,
        "fingerprint": opened.fingerprint,
        "precision": opened.precision,
        "data": str(data.settings.data.resolve()),
    }
    differences = [text for key in wanted for text in _differences(found.get(key), wanted[key], key)]
    if differences:
        what = "; ".join(differences)
        raise InputError(f"{out} holds the benchmark of another encoder or data set ({what}); choose another --out")
    if opened.fingerprint is None:
        raise InputError(
            f"{out} holds a benchmark already, and encoder {opened.description} has no fingerprint by which to tell "
            "that they are its own; choose another --out, or put the encoder into a module"
        )


def compare_cards(card: Card, other: Path, num_resamples: int, seed: int) -> PairedBootstrap:
    """Compare a card with that of the same protocol in another benchmark's folder, on the same resamples of images.

    Both mIoU and both intervals are computed from the counts of each image, those of the first seed where clustering
    was repeated, whatever resamples the other card had.

    Raises:
        InputError: no such card there, or one of other settings, classes, foreground, masks or images.
    """
    path = other / "cards" / card.path.name
    theirs = read_card(path)
    for name in _COMPARED:
        differences = _differences(_compared(theirs.content, name), _compared(card.content, name), name)
        if differences:
            raise InputError(
                f"{path} is of another {_COMPARED[name]} ({'; '.join(differences)}); only numbers that differ in the "
                "encoder alone are compared: run one of the two again with the settings of the other"
            )
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


def _with_resamples(card: Card, settings: ProtocolSettings) -> Card:
    """Return the card with the interval of these resamples, written again where it had another."""
    found = card.content["scores"].get("bootstrap", {"num_resamples": 0, "seed": settings.seed})
    if (found["num_resamples"], found["seed"]) == (settings.num_resamples, settings.seed):
        return card
    bootstrap = bootstrap_or_none(_read_totals(card.path)[0], settings.num_resamples, settings.seed)
    scores = {name: value for name, value in card.content["scores"].items() if name != "bootstrap"}
    if bootstrap is not None:
        scores["bootstrap"] = bootstrap.to_json()
    content = {**card.content, "scores": scores}
    write_json(card.path, content)
    return Card(card.path, content)


def _compared(content: dict[str, Any], name: str) -> Any:
    """Return a part of a card's identity in which compared cards must agree."""
    found = content["identity"].get(name)
    if name == "splits" and isinstance(found, dict):  # where the files lie does not matter
        return {split: images["stems"] if isinstance(images, dict) else images for split, images in found.items()}
    return found


def _differences(there: Any, here: Any, name: str) -> list[str]:
    """Say in which settings, however deep, two values differ; digests are named, not shown."""
    if isinstance(there, dict) and isinstance(here, dict):
        alone = [f"{key}: only there" for key in there if key not in here]
        alone += [f"{key}: only here" for key in here if key not in there]
        return alone + [text for key in there if key in here for text in _differences(there[key], here[key], key)]
    if there == here:
        return []
    is_digest = any(isinstance(value, str) and len(value) == _DIGEST_LENGTH for value in (there, here))
    return [name if is_digest else f"{name}: {there} there, {here} here"]


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
