"""The record and the page of `embedding_space`, and whether an earlier call embedded the same masks."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densessl.commands.cluster_encoder import ClusteredEncoder
from densessl.commands.embedded_masks import EMBEDDINGS_FILE, EmbeddedMasks, Pooling, read_embeddings, write_embeddings
from densessl.commands.embedding_drawing import MAP_FILE, MARKS_FILE, DrawnSpace, Space
from densessl.errors import InputError
from densessl.evaluation.extraction import mask_weighting
from densessl.files import check_unused_folder, read_json, remove_abandoned_writes, state_of_files, write_json
from densessl.report.embedding_page import EmbeddingPage
from densessl.structures import ImageRef, Rejection
from densessl.training.run_folder import plain

RECORD_FILE = "embedding_space.json"

_SECTIONS = {
    "asked for": "Neighbours",
    "medoid": "Neighbours of the medoids",
    "least typical": "Neighbours of the least typical masks",
}
_PCA_TEXT = "The axes are the first two principal components of all prototypes, to one scale."
_TSNE_TEXT = "t-SNE keeps who is near whom; distances between groups, their sizes and the axes mean nothing."


def made_from(encoder: ClusteredEncoder, images: Sequence[ImageRef], pooling: Pooling) -> dict[str, Any]:
    """Return all that decides the prototypes; `fingerprint` is None where an encoder's weights cannot be told."""
    settings, protocol, masks = encoder.settings, pooling.protocol, pooling.masks
    foreground = "head" if masks is None else "masks"
    return plain(  # type: ignore[no-any-return]
        {
            "encoder": encoder.opened.description,
            "fingerprint": encoder.opened.fingerprint,
            "precision": encoder.opened.precision,
            "features": settings.features if encoder.run is not None else None,
            "output_stride": settings.output_stride,
            "normalisation": settings.normalisation,
            "image_size_px": protocol.image_size_px,
            "weighting": mask_weighting(protocol, "head" if masks is None else "masks"),
            "foreground": foreground,
            "split_masks": pooling.split_masks,
            "images": state_of_files(ref.path for ref in images),
            "masks": None if masks is None else state_of_files(masks.files.values()),
        }
    )


def claim_space_folder(out: Path, now: dict[str, Any]) -> tuple[EmbeddedMasks, list[Rejection]] | None:
    """Return the masks, and those left out, that an earlier call embedded from the same; None where there are none.

    What a call with something else left in the folder is removed, and the folder is this one's from now on.

    Raises:
        InputError: the folder holds masks of another stage, which would be written over.
    """
    remove_abandoned_writes(out)
    if not (out / RECORD_FILE).is_file():
        check_unused_folder(out, "embedding_space", RECORD_FILE, allowed=("proposals",))
        write_json(out / RECORD_FILE, {"made_from": now})
        return None
    record = read_json(out / RECORD_FILE, "the record of `embedding_space`")
    known = record if isinstance(record, dict) else {}
    is_same = known.get("made_from") == now and now["fingerprint"] is not None
    if is_same and (out / EMBEDDINGS_FILE).is_file() and "left_out_of_masks" in known:
        left_out = [Rejection(str(item["stem"]), str(item["reason"])) for item in known["left_out_of_masks"]]
        return read_embeddings(out / EMBEDDINGS_FILE), left_out
    for name in ("masks", "neighbours"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (EMBEDDINGS_FILE, MAP_FILE, MARKS_FILE, "index.html"):
        (out / name).unlink(missing_ok=True)
    write_json(out / RECORD_FILE, {"made_from": now})
    return None


def keep_embedded(out: Path, now: dict[str, Any], masks: EmbeddedMasks, left_out: Sequence[Rejection]) -> None:
    """Write down the masks as soon as they are embedded: a call that fails after this need not embed them again."""
    write_embeddings(out / EMBEDDINGS_FILE, masks)
    write_json(out / RECORD_FILE, plain({"made_from": now, "left_out_of_masks": left_out}))


def found_record(space: Space) -> dict[str, Any]:
    """Return what was found, for embedding_space.json."""
    masks, clusters, plane, medoids = space.masks, space.clusters, space.plane, space.medoids
    sizes = {cluster: int((clusters.numbers == cluster).sum()) for cluster in medoids}
    return {
        "num_masks": len(masks),
        "num_images": len(set(masks.stems)),
        "notes": clusters.notes,
        "projection": {"variance": plane.variance, "perplexity": plane.perplexity},
        "clusters": [
            {"id": cluster, "name": clusters.names.get(cluster), "size": sizes[cluster], "medoid": masks.name(row)}
            for cluster, row in medoids.items()
        ],
        "strips": [
            {
                "query": masks.name(strip.row),
                "chosen_as": strip.kind,
                "neighbours": [
                    {"mask": masks.name(row), "cosine": cosine}
                    for row, cosine in zip(strip.neighbours, strip.cosines, strict=True)
                ],
            }
            for strip in space.strips
        ],
    }


def check_numbers(num_clusters: int | None, num_neighbours: int, num_shown: int, batch_size: int, seed: int) -> None:
    """Raise `InputError` for settings that cannot work, before time is spent on images."""
    lowest = {
        "num_neighbours": (num_neighbours, 1),
        "num_shown": (num_shown, 1),
        "batch_size": (batch_size, 1),
        "seed": (seed, 0),
    }
    for name, (value, least) in lowest.items():
        if value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}")
    if num_clusters is not None and num_clusters < 2:
        raise InputError(f"num_clusters is {num_clusters}; it counts the background, so it must be at least 2")


def space_page(
    title: str, record: Mapping[str, Any], space: Space, drawn: DrawnSpace, rejected: Sequence[Rejection]
) -> EmbeddingPage:
    """Return what the page shows; `record` is that of embedding_space.json."""
    settings, source, provenance = record["settings"], record["made_from"], record["supervision"]
    folder, variance, perplexity = settings["clusters"], space.plane.variance, space.plane.perplexity
    facts = {
        "Encoder": source["encoder"],
        "Labels behind its weights": provenance.backbone,
        "Masks": provenance.masks,
        "Masks and images": f"{len(space.masks):,} masks of {record['num_images']:,} images",
        "Protocol": f"{settings['protocol']}, images {source['image_size_px'][0]} x {source['image_size_px'][1]}",
        "Clusters": "found among these masks" if folder is None else f"those of {folder.name}",
        "Projection": f"t-SNE, perplexity {perplexity:.3g}, seed {settings['seed']}" if variance is None else "PCA",
    }
    return EmbeddingPage(
        title=title,
        facts=facts,
        notes=space.clusters.notes,
        thumbnails=drawn.map,
        marks=drawn.marks,
        projection=_TSNE_TEXT if variance is None else _PCA_TEXT,
        strips={_SECTIONS[kind]: found for kind, found in drawn.strips.items()},
        clusters=_cluster_lines(space),
        rejected=rejected,
    )


def _cluster_lines(space: Space) -> dict[str, str]:
    """Return what the page says of each cluster, by its name."""
    lines = {}
    for cluster, row in space.medoids.items():
        size = int(np.count_nonzero(space.clusters.numbers == cluster))
        name = space.clusters.names.get(cluster)
        called = f"cluster {cluster}" if name is None else f"cluster {cluster}, {name}"
        lines[called] = f"{size:,} mask{'s' if size > 1 else ''}, medoid {space.masks.name(row)}"
    return lines
