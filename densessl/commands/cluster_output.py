"""What `cluster` writes and prints: clusters.json, scores.json, a summary."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from densessl.commands.cluster_encoder import ClusteredEncoder
from densessl.commands.cluster_number import NUMBER_FILES
from densessl.data.cluster_names import NAMES_FILE
from densessl.data.label_maps import write_label_map
from densessl.evaluation.cluster_scores import RepeatedScores
from densessl.evaluation.cluster_segmentation import cluster_ids, label_map_of, nearest_members
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.extraction import Extraction, Foreground
from densessl.evaluation.protocols import ClusterProtocol
from densessl.evaluation.segmenter_file import SEGMENTER_FILE
from densessl.files import read_json, remove_abandoned_writes, write_atomically, write_json
from densessl.saliency.mask_provenance import masks_provenance
from densessl.structures import Provenance
from densessl.training.run_folder import plain

if TYPE_CHECKING:
    from densessl.commands.cluster import ClusterResult

ORACLE = "ORACLE: the true foreground, read from the labels that the scores are computed with"
"""What is said of `--foreground labels` wherever the masks of a result are named."""

EARLIER_NAMES_FILE = "names_of_earlier_clusters.yaml"

MEMBERS_LISTED = 64
"""Nearest members listed for each cluster in clusters.json."""


def remove_earlier_output(out: Path) -> None:
    """Remove what an earlier `cluster` wrote to the folder, so that no label map or score of another run stays.

    Names that were given to its clusters by hand are set aside: they may not fit the new ones.
    """
    remove_abandoned_writes(out)
    if not (out / "clusters.json").is_file():
        return
    shutil.rmtree(out / "label_maps", ignore_errors=True)
    for name in ("scores.json", "prototypes.npz", "clusters.json", SEGMENTER_FILE, *NUMBER_FILES):
        (out / name).unlink(missing_ok=True)
    if (out / NAMES_FILE).is_file():
        os.replace(out / NAMES_FILE, out / EARLIER_NAMES_FILE)
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
            f"{out / NAMES_FILE} named the clusters that were here before; it is now {EARLIER_NAMES_FILE}"
        )


def cluster_record(
    result: "ClusterResult",
    notes: Sequence[str],
    *,
    encoder: ClusteredEncoder,
    data: Path | None,
    images: Path | None,
    split: str,
    foreground: Foreground,
    masks: Path | None,
    seeds: range,
) -> dict[str, Any]:
    """Return how clusters were made, for `clusters.json` and, in part, `scores.json`; arguments as for `cluster`."""
    settings = encoder.settings
    return {
        "num_clusters": result.num_clusters,
        "foreground": foreground,
        "masks": masks,
        "features": settings.features if encoder.run is not None else None,
        "weights": settings.weights if encoder.run is not None else None,
        "seeds": list(seeds),
        "run": encoder.run and encoder.run.resolve(),
        **encoder.record(),
        "precision": encoder.opened.precision,
        **({"foreground_note": ORACLE} if foreground == "labels" else {}),
        "images": {"data": data and data.resolve(), "images": images and images.resolve(), "split": split},
        "label_free": {"stability": result.stability, "silhouette": result.silhouette},
        "notes": list(notes),
    }


def write_arrays(out: Path, extraction: Extraction, found: Clustering) -> None:
    """Write the label maps of one clustering and, where masks were clustered, their prototypes."""
    if extraction.is_pixelwise:
        for image in extraction.images:
            write_label_map(out / "label_maps" / f"{image.stem}.png", label_map_of(image, np.zeros(0, np.int64), found))
        return
    for image, ids in zip(extraction.images, cluster_ids(extraction, found), strict=True):
        write_label_map(out / "label_maps" / f"{image.stem}.png", label_map_of(image, ids, found))
    vectors = np.concatenate([image.vectors for image in extraction.images])
    has_prototype = np.concatenate([image.has_prototype for image in extraction.images])
    stems = np.array([image.stem for image in extraction.images for _ in range(len(image.vectors))])

    def write(path: Path) -> None:
        np.savez_compressed(path, vectors=vectors, has_prototype=has_prototype, stems=stems)

    write_atomically(out / "prototypes.npz", write)


def write_clusters(
    out: Path, record: dict[str, Any], protocol: ClusterProtocol, extraction: Extraction, found: Clustering
) -> None:
    """Write `clusters.json`: how the clusters were made, and each one's size and nearest members."""
    sizes = [int((found.assignments == number).sum()) for number in range(found.num_clusters)]
    members = nearest_members(extraction, found, MEMBERS_LISTED)
    clusters = [
        {
            "id": number,
            "size": sizes[number],
            "members": [{"stem": stem, "distance": distance} for stem, distance in members[number]],
        }
        for number in range(found.num_clusters)
    ]
    rejected = [{"stem": item.stem, "reason": item.reason} for item in extraction.rejected]
    content = {**record, "protocol": protocol, "rejected": rejected, "clusters": clusters}
    write_json(out / "clusters.json", plain(content))


def write_scores(
    out: Path,
    record: dict[str, Any],
    protocol: str,
    scores: RepeatedScores,
    class_names: tuple[str, ...],
    provenance: Provenance,
) -> None:
    """Write `scores.json`: means over seeds, the first seed's details, and what labels touched them."""
    names = [class_names[c] for c in scores.per_seed[0].classes] if class_names else []
    keys = ("num_clusters", "foreground", "masks", "features", "weights", "seeds", "encoder", "foreground_note")
    kept = {key: record[key] for key in keys if key in record}
    content = {
        **scores.to_json(),
        "class_names": names,
        "protocol": protocol,
        **kept,
        "provenance": provenance,
    }
    write_json(out / "scores.json", plain(content))


def provenance_of(
    encoder: ClusteredEncoder, foreground: Foreground, masks: Path | None, scores: RepeatedScores | None
) -> Provenance:
    """Say which labels touched the clusters and, where there are any, the scores, from the run's own record."""
    known: dict[str, Any] = {}
    if encoder.run is not None:
        path = encoder.run / "run.json"
        known = read_json(path, "the record of a run").get("provenance", {}) if path.is_file() else {}
    match foreground:
        case "head":
            source = f"the network's saliency head, trained on masks: {known.get('masks', 'unknown')}"
        case "masks":
            source = masks_provenance(masks) if masks is not None else "unknown"
        case "all":
            source = "none (every pixel is clustered)"
        case "labels":
            source = ORACLE
    matching = "none" if scores is None else scores.per_seed[0].labels_used
    if encoder.run is None:
        return Provenance(
            backbone=encoder.opened.supervision,
            masks=source,
            selection="unknown: the encoder was trained elsewhere",
            matching=matching,
            notes=(f"encoder: {encoder.opened.description}",),
        )
    return Provenance(
        backbone=known.get("backbone", "unknown"),
        masks=source,
        selection=known.get("selection", "unknown"),
        matching=matching,
        notes=(f"masks in training: {known.get('masks', 'unknown')}", *known.get("notes", ())),
    )


def print_summary(console: Console, result: "ClusterResult", class_names: tuple[str, ...]) -> None:
    """Print scores by class, or, without labels, what can be said of the clusters."""
    left_out = f", {result.num_left_out} left out" if result.num_left_out else ""
    agreement = "" if result.stability is None else f", agreement between seeds {result.stability:.2f}"
    clusters = f"{result.num_clusters} clusters{' (background included)' if result.has_background else ''}"
    console.print(
        f"{clusters} of {result.num_images} images{left_out}{agreement}: {result.out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if result.scores is None:
        console.print("no labels: metrics that need them are skipped")
        return
    first = result.scores.per_seed[0]
    table = Table("class", "IoU", title=f"mIoU {result.scores.miou:.3f} \u00b1 {result.scores.miou_std:.3f}")
    for number, value in zip(first.classes, result.scores.iou, strict=True):
        name = class_names[number] if number < len(class_names) else str(number)
        table.add_row(escape(name), "absent" if value is None else f"{value:.3f}")
    console.print(table)
    console.print(first.labels_used, highlight=False, soft_wrap=True)
