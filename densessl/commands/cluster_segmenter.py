"""What `cluster` says in segmenter.safetensors of the features that it clustered."""

import os
from pathlib import Path
from typing import Any

from densessl.commands.cluster_encoder import ClusteredEncoder
from densessl.commands.cluster_output import provenance_of
from densessl.evaluation.extraction import Foreground
from densessl.evaluation.segmenter_file import EncoderReference, ProposedMasks, SegmenterHeader
from densessl.files import file_sha256, read_json
from densessl.saliency.estimators import NETWORK_METHODS


def segmenter_header(
    out: Path, encoder: ClusteredEncoder, *, foreground: Foreground, masks: Path | None
) -> SegmenterHeader:
    """Return where the features of a clustering come from; arguments as for `cluster`."""
    settings = encoder.settings
    file = settings.weights if isinstance(settings.weights, Path) else None
    if encoder.run is None:
        run, weights = "", "" if file is None else _relative(file, out)
    else:
        run, weights = _relative(encoder.run, out), f"{settings.weights}.safetensors"
    return SegmenterHeader(
        run=run,
        weights=weights,
        weights_sha256=encoder.opened.fingerprint or "",
        features=settings.features,
        foreground=foreground,
        proposals=None if masks is None else _proposals(masks, out),
        provenance=provenance_of(encoder, foreground, masks, scores=None),
        encoder=None if encoder.run is not None else _reference(encoder),
        precision=encoder.opened.precision,
    )


def _reference(encoder: ClusteredEncoder) -> EncoderReference:
    settings = encoder.settings
    return EncoderReference(
        encoder.kind,
        encoder.name,
        settings.output_stride,
        settings.pretrained,
        settings.normalisation,
        settings.seed,
    )


def _proposals(masks: Path, out: Path) -> ProposedMasks | None:
    """Return how a folder's masks were proposed; None where they were made elsewhere."""
    record = masks / "saliency.json"
    content = read_json(record, "the settings of `saliency`") if record.is_file() else None
    if not isinstance(content, dict):
        return None
    settings: dict[str, Any] | None = content.get("settings")
    if settings is None or settings.get("method") in (None, "file"):
        return None
    name = settings.get("network" if settings["method"] in NETWORK_METHODS else "weights")
    if name is None:
        return ProposedMasks(settings)
    digest = (content.get("features") or {}).get("weights_sha256")
    path = _weights_file(Path(str(name)), masks, digest)
    return ProposedMasks(settings, str(name) if path is None else _relative(path, out), digest)


def _weights_file(path: Path, masks: Path, digest: Any) -> Path | None:
    """Find the file of weights: where it was, seen from here, or where `saliency` keeps a network that it trained."""
    for candidate in (path, *(masks / folder / path.name for folder in ("self_training", "patch_training"))):
        if candidate.is_file() and digest in (None, file_sha256(candidate)):
            return candidate
    return None


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
