"""Gathers the contents of a report from a run folder; files that are absent leave their section out."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from densessl.data.cluster_names import read_cluster_names
from densessl.errors import InputError, MissingInputError
from densessl.files import read_json
from densessl.report.contents import (
    Clustering,
    Comparison,
    Curve,
    MaskGallery,
    ReportContents,
    RunRecord,
    Scores,
)
from densessl.report.photographs import Photographs, open_photographs, stored_stems
from densessl.report.run_masks import open_run_masks
from densessl.report.run_pictures import gather_comparisons, gather_gallery, gather_strips
from densessl.report.run_scores import plain_settings, read_provenance, read_scores

KNOWN_FILES = ("run.json", "config.yaml", "metrics.jsonl", "proposals", "clusters", "clusters_initial")
PICTURE_SEED = 0
"""Seed of every random choice of pictures, so the same run gives the same page."""


def read_run(run: Path) -> ReportContents:
    """Return what a report shows of a run folder.

    Raises `MissingInputError` where the folder holds none of the files a run writes, and `InputError` where
    one of them is broken.
    """
    if not any((run / name).exists() for name in KNOWN_FILES):
        raise MissingInputError(f"no run in {run}; expected a folder with at least one of {', '.join(KNOWN_FILES)}")
    record = _json_object(run / "run.json", "the record of a run")
    clusters = _json_object(run / "clusters" / "clusters.json", "the clusters of a run")
    initial = _json_object(run / "clusters_initial" / "clusters.json", "the clusters before pretraining")
    proposals = _json_object(run / "proposals" / "saliency.json", "the settings of the mask proposals")
    config_text = _config_text(run / "config.yaml")
    config = _config_values(config_text)
    recorded = [part.get("images") for part in (clusters, initial, proposals, record)]
    sources = [source for source in recorded if isinstance(source, Mapping)]
    photographs = open_photographs([*sources, config])
    masks = open_run_masks(run, (config.get("masks"), clusters.get("masks")), photographs)
    scores, scores_before = read_scores(run / "clusters"), read_scores(run / "clusters_initial")
    gallery = gather_gallery(run, _saliency_settings(proposals), photographs, masks, _chooser())
    comparisons, num_comparable = gather_comparisons(
        run, scores, scores_before, photographs, masks, _chooser(), has_background=clusters.get("foreground") != "all"
    )
    curves, curve_notes = read_curves(run / "metrics.jsonl")
    clustering = _clustering(run / "clusters", clusters, scores, photographs)
    gaps = _gaps(comparisons, gallery, clustering, photographs)
    return ReportContents(
        title=run.resolve().name,
        record=_run_record(record, initial, clusters) if record else None,
        config=config_text,
        curves=curves,
        clustering=clustering,
        clustering_before=_clustering(run / "clusters_initial", initial, None, None),
        scores=scores,
        scores_before=scores_before,
        comparisons=comparisons,
        num_comparable=num_comparable,
        value_names=_value_names(scores, clustering, photographs),
        gallery=gallery,
        notes=(*read_alarms(run / "alarms.jsonl"), *photographs.problems, *masks.problems, *curve_notes, *gaps),
    )


def read_alarms(path: Path) -> tuple[str, ...]:
    """Return one sentence for each alarm that pretraining raised; lines cut off by a kill are left out."""
    if not path.is_file():
        return ()
    entries = [_parsed(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return tuple(
        f"Alarm after step {entry['step']} of pretraining: {entry['message']}."
        for entry in entries
        if entry is not None and "step" in entry and "message" in entry
    )


def read_curves(path: Path) -> tuple[tuple[Curve, ...], tuple[str, ...]]:
    """Read the numeric quantities of a log with one JSON object per line, and say what was left out.

    Lines that a killed process left unfinished and values that are not finite are skipped and counted.
    """
    if not path.is_file():
        return (), ()
    points: dict[str, list[tuple[float, float]]] = {}
    num_broken = num_infinite = 0
    for index, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        entry = _parsed(line)
        if entry is None:
            num_broken += bool(line.strip())
            continue
        step = entry.get("step", index)
        for name, value in entry.items():
            if name in {"step", "epoch"} or not _is_number(value) or not _is_number(step):
                continue
            if math.isfinite(value):
                points.setdefault(name, []).append((float(step), float(value)))
            else:
                num_infinite += 1
    notes = []
    if num_broken:
        notes.append(f"{num_broken} unreadable lines of {path.name} were left out of the curves.")
    if num_infinite:
        notes.append(f"{num_infinite} values in {path.name} are not finite and were left out of the curves.")
    curves = (Curve(name, *zip(*sorted(pairs), strict=True)) for name, pairs in points.items())
    return tuple(curves), tuple(notes)


def _config_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _config_values(text: str | None) -> dict[str, Any]:
    """Return the configuration's values; it is shown as text in any case, so a broken one counts as empty."""
    try:
        values = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _saliency_settings(proposals: Mapping[str, Any]) -> dict[str, str]:
    parts = [proposals.get(name) for name in ("settings", "counts")]
    nested = [plain_settings(part) for part in parts if isinstance(part, Mapping)]
    return {name: value for part in nested for name, value in part.items()}


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _run_record(record: Mapping[str, Any], initial: Mapping[str, Any], clusters: Mapping[str, Any]) -> RunRecord:
    stages = (record, *(part.get("environment") or {} for part in (initial, clusters)))
    commands = [str(stage["command"]) for stage in stages if stage.get("command")]
    return RunRecord(
        commands=tuple(dict.fromkeys(commands)),
        started=record.get("started"),
        seconds=record.get("seconds"),
        commit=record.get("commit"),
        versions=plain_settings(record.get("versions") or {}),
        hardware=plain_settings(record.get("hardware") or {}),
        seed=record.get("seed"),
        provenance=read_provenance(record.get("provenance")),
    )


def _clustering(
    folder: Path, values: Mapping[str, Any], scores: Scores | None, photographs: Photographs | None
) -> Clustering | None:
    if not values:
        return None
    label_free = values.get("label_free") or {}
    members = values.get("clusters") or []
    has_background = values.get("foreground") != "all"
    strips = () if photographs is None else gather_strips(folder, members, scores, photographs, has_background)
    names = read_cluster_names(folder, len(members))
    strips = tuple(replace(strip, name=names.get(strip.cluster)) for strip in strips)
    protocol = plain_settings(values.get("protocol") or {})
    if values.get("foreground") is not None:
        protocol["foreground"] = str(values["foreground"])
    seeds = values.get("seeds")
    return Clustering(
        num_clusters=len(members) or int(values.get("num_clusters", 0)),
        num_images=len(stored_stems(folder / "label_maps")) or None,
        seeds=", ".join(map(str, seeds)) if isinstance(seeds, list) else None if seeds is None else str(seeds),
        protocol=protocol,
        stability=label_free.get("stability"),
        silhouette=label_free.get("silhouette"),
        strips=strips,
        names=names,
    )


def _value_names(scores: Scores | None, clustering: Clustering | None, photographs: Photographs) -> dict[int, str]:
    names = {0: "background"}
    if scores is not None:
        names |= dict(enumerate(photographs.class_names))
        return names | {score.class_id: score.name for score in scores.classes}
    num_clusters = clustering.num_clusters if clustering else 0
    given = clustering.names if clustering else {}
    return names | {index + 1: given.get(index, f"cluster {index}") for index in range(num_clusters)}


def _gaps(
    comparisons: Sequence[Comparison],
    gallery: MaskGallery | None,
    clustering: Clustering | None,
    photographs: Photographs,
) -> list[str]:
    """Say how many of the pictures shown have no photograph, unless the source as a whole is gone."""
    if photographs.problems:
        return []
    strips = clustering.strips if clustering else ()
    photos = [item.photo for item in comparisons]
    photos += [picture.photo for picture in (gallery.pictures if gallery else ())]
    photos += [member.photo for strip in strips for member in strip.members]
    num_gone = sum(photo is None for photo in photos)
    if not num_gone:
        return []
    return [f"{num_gone} of {len(photos)} photographs shown here could not be read; grey stands in for them."]


def _chooser() -> random.Random:
    return random.Random(PICTURE_SEED)


def _json_object(path: Path, expected: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = read_json(path, expected)
    if not isinstance(value, dict):
        raise InputError(
            f"{path} holds {type(value).__name__}, expected a JSON object: {expected}; run the stage again"
        )
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
