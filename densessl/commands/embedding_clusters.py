"""The clusters by which `embedding_space` colours masks: found among them, or those of an earlier `cluster`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from densessl.commands.cluster_encoder import ClusteredEncoder
from densessl.commands.embedded_masks import EmbeddedMasks
from densessl.data.cluster_names import read_cluster_names
from densessl.errors import InputError
from densessl.evaluation.clustering import Clustering, assign, cluster_prototypes
from densessl.evaluation.protocols import ClusterProtocol
from densessl.evaluation.segmenter_file import SEGMENTER_FILE, SegmenterHeader, load_segmenter
from densessl.segmenter import clusters_folder

DEFAULT_NUM_CLUSTERS = 8
"""Clusters, background included, where nothing says otherwise: seven of masks, which have a colour and a mark each."""


@dataclass(frozen=True)
class MaskClusters:
    """numbers: int64 (num masks,), from 0. names: of clusters that have one. notes: what a reader must know."""

    numbers: NDArray[np.int64]
    names: dict[int, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FittedClusters:
    """The clusters of a folder that `cluster` wrote."""

    folder: Path
    clustering: Clustering
    names: dict[int, str]


def clusters_precision(path: Path) -> Literal["fp32", "bf16"]:
    """Return the precision of the features that a clusters folder, or a run that holds one, was made of."""
    return load_segmenter(clusters_folder(path) / SEGMENTER_FILE)[0].precision


def open_clusters(path: Path, encoder: ClusteredEncoder) -> FittedClusters:
    """Open a clusters folder (or a run that holds one) for the encoder whose masks it clustered.

    Raises:
        MissingInputError: no such folder.
        InputError: clusters of pixels, or of another encoder; both are shown.
    """
    folder = clusters_folder(path)
    header, clustering = load_segmenter(folder / SEGMENTER_FILE)
    if header.foreground == "all":
        raise InputError(
            f"{folder} holds clusters of all pixels, which say nothing of masks; cluster with --foreground head or "
            "masks, or leave --clusters out"
        )
    differences = [
        f"{name} {there!r} there, {here!r} here"
        for name, there, here in _compared(header, encoder)
        if there != here and "" not in (there, here)
    ]
    if differences:
        raise InputError(
            f"{folder} holds clusters of another encoder's features ({'; '.join(differences)}); give the encoder that "
            "was clustered (in its --precision), or leave --clusters out"
        )
    return FittedClusters(folder, clustering, read_cluster_names(folder, clustering.num_clusters))


def find_clusters(
    masks: EmbeddedMasks, fitted: FittedClusters | None, num_clusters: int | None, protocol: ClusterProtocol, seed: int
) -> MaskClusters:
    """Cluster the masks as `cluster` does, or give each the nearest of the fitted clusters.

    num_clusters: the background included, as for `cluster`; None for 8, or as many as there are masks.

    Raises:
        InputError: more clusters than masks were asked for, or clusters of vectors of another dimension.
    """
    if fitted is not None:
        _check_dimension(masks, fitted)
        return MaskClusters(assign(masks.vectors, fitted.clustering), fitted.names, ())
    asked = DEFAULT_NUM_CLUSTERS if num_clusters is None else num_clusters
    num_fitted = min(asked - 1, len(masks)) if num_clusters is None else asked - 1
    found = cluster_prototypes(masks.vectors, num_fitted, protocol, seed, masks.stems)
    notes = found.notes
    if num_fitted < asked - 1:
        notes = (f"{len(masks)} masks are too few for {asked - 1} clusters; each has its own", *notes)
    return MaskClusters(found.assignments, {}, notes)


def _compared(header: SegmenterHeader, encoder: ClusteredEncoder) -> list[tuple[str, str, str]]:
    """Return what must be equal, as (name, there, here); what is unknown on one side is empty."""
    settings, reference = encoder.settings, header.encoder
    rows = [
        ("weights with SHA-256", header.weights_sha256[:16], (encoder.opened.fingerprint or "")[:16]),
        ("precision", header.precision, encoder.opened.precision),
    ]
    if encoder.run is not None:
        rows.append(("features", header.features, settings.features))
    if reference is not None and encoder.run is None:
        rows.append(("encoder", reference.name, encoder.name))
        rows.append(("output_stride", str(reference.output_stride), str(settings.output_stride)))
        rows.append(("normalisation", reference.normalisation, settings.normalisation))
    elif (reference is None) != (encoder.run is not None):
        rows.append(("kind", "run" if reference is None else reference.kind, encoder.kind))
    return rows


def _check_dimension(masks: EmbeddedMasks, fitted: FittedClusters) -> None:
    projection = fitted.clustering.projection
    dim = fitted.clustering.centroids.shape[1] if projection.components is None else projection.components.shape[1]
    if masks.vectors.shape[1] != dim:
        raise InputError(
            f"{fitted.folder} holds clusters of {dim} dimensions, but the prototypes have {masks.vectors.shape[1]}; "
            "give the encoder that was clustered"
        )
