"""Fitted clusters in one file: what it takes to give further images the labels that the clustered ones have."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.clustering import Clustering
from densessl.evaluation.extraction import Foreground
from densessl.evaluation.network_features import FeatureMap
from densessl.evaluation.projection import Projection
from densessl.evaluation.protocols import ClusterProtocol
from densessl.models.dense_encoder import Normalisation
from densessl.models.network_file import load_network, save_network
from densessl.structures import Provenance

SEGMENTER_FILE = "segmenter.safetensors"
_KEY = "segmenter"
_ORIGIN = f"{SEGMENTER_FILE} of a folder that `cluster` of this version wrote"
_ARRAYS = ("mean", "components", "scale")


@dataclass(frozen=True)
class ProposedMasks:
    """How the masks that were clustered had been proposed.

    settings: those of the `saliency` stage, as saliency.json holds them.
    weights: the file of weights or of the network that they use, relative to the clusters folder; None for none.
    weights_sha256: of that file.
    """

    settings: Mapping[str, Any]
    weights: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True)
class EncoderReference:
    """An encoder that is no run.

    kind: timm, torchscript, export or callable; only the network of a timm name is built again from a clusters folder.
    name: what it was called. The others: as `densessl.models.dense_encoder.TimmSource`.
    """

    kind: str
    name: str
    output_stride: int = 8
    pretrained: bool = False
    normalisation: Normalisation = "auto"
    seed: int = 0


@dataclass(frozen=True)
class SegmenterHeader:
    """Where the features of a clustering come from.

    run: path of the run folder, relative to the clusters folder, with `/` between parts; empty where it was no run.
    weights: name of its weights file, or path of an encoder's, relative to the clusters folder; empty where there is
        none.
    weights_sha256: of that file, or of the network's state; empty where it is not known.
    proposals: how the masks were proposed; None where they were not, or came from elsewhere.
    encoder: what gave the features, where it was no run.
    precision: that the features were computed in.
    """

    run: str
    weights: str
    weights_sha256: str
    features: FeatureMap
    foreground: Foreground
    proposals: ProposedMasks | None
    provenance: Provenance
    encoder: EncoderReference | None = None
    precision: Literal["fp32", "bf16"] = "fp32"


def save_segmenter(path: Path, header: SegmenterHeader, found: Clustering) -> None:
    """Write one clustering (projection, centroids, protocol) and where its features come from; no pickle."""
    arrays: dict[str, NDArray[np.generic]] = {"centroids": found.centroids}
    if found.groups is not None:
        arrays["groups"] = found.groups
    for name in _ARRAYS:
        values = getattr(found.projection, name)
        if values is not None:
            arrays[name] = values
    clustering = {
        "protocol": asdict(found.protocol),
        "is_input_normalised": found.projection.is_input_normalised,
        "is_output_normalised": found.projection.is_output_normalised,
        "inertia": found.inertia,
        "seed": found.seed,
        "notes": list(found.notes),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}
    save_network(path, tensors, _KEY, {**asdict(header), "clustering": clustering})


def load_segmenter(path: Path) -> tuple[SegmenterHeader, Clustering]:
    """Read what `save_segmenter` wrote; the clustering has no assignments, since it has no vectors.

    Raises:
        MissingInputError: no such file.
        InputError: not a file of that kind, or one that contradicts itself.
    """
    tensors, content = load_network(path, _KEY, kind="segmenter", origin=_ORIGIN)
    try:
        header, clustering = _header(content), _clustering(content["clustering"], tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"segmenter {path} lacks a part or holds a wrong one ({type(error).__name__}: {error}); expected {_ORIGIN}"
        ) from error
    return header, clustering


def _header(content: Mapping[str, Any]) -> SegmenterHeader:
    values = {name: str(content[name]) for name in ("run", "weights", "weights_sha256")}
    proposals, encoder = content["proposals"], content.get("encoder")
    provenance = dict(content["provenance"])
    return SegmenterHeader(
        **values,
        features=_one_of(content["features"], get_args(FeatureMap)),
        foreground=_one_of(content["foreground"], get_args(Foreground)),
        proposals=None if proposals is None else ProposedMasks(**proposals),
        provenance=Provenance(**{**provenance, "notes": tuple(provenance["notes"])}),
        encoder=None if encoder is None else _reference(encoder),
        precision=_one_of(content.get("precision", "fp32"), ("fp32", "bf16")),
    )


def _reference(content: Mapping[str, Any]) -> EncoderReference:
    return EncoderReference(
        kind=str(content["kind"]),
        name=str(content["name"]),
        output_stride=int(content["output_stride"]),
        pretrained=content["pretrained"] is True,
        normalisation=_one_of(content["normalisation"], get_args(Normalisation)),
        seed=int(content["seed"]),
    )


def _clustering(content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Clustering:
    protocol = dict(content["protocol"])
    height, width = protocol["image_size_px"]
    arrays = {name: _float32(tensors[name]) for name in _ARRAYS if name in tensors}
    projection = Projection(bool(content["is_input_normalised"]), bool(content["is_output_normalised"]), **arrays)
    found = Clustering(
        assignments=np.zeros(0, dtype=np.int64),
        centroids=_float32(tensors["centroids"]),
        inertia=float(content["inertia"]),
        projection=projection,
        protocol=ClusterProtocol(**{**protocol, "image_size_px": (int(height), int(width))}),
        seed=int(content["seed"]),
        notes=tuple(content["notes"]),
        groups=_groups(tensors["groups"]) if "groups" in tensors else None,
    )
    _check_shapes(found)
    return found


def _check_shapes(found: Clustering) -> None:
    """Raise `ValueError` where the arrays do not belong together."""
    if found.centroids.ndim != 2 or not len(found.centroids):
        raise ValueError(f"centroids have shape {found.centroids.shape}, not (clusters, dim)")
    if found.groups is not None and found.groups.shape != (len(found.centroids),):
        raise ValueError(f"groups {found.groups.shape} do not fit {len(found.centroids)} centroids")
    projected = found.centroids.shape[1]
    mean, components, scale = (getattr(found.projection, name) for name in _ARRAYS)
    if (mean is None) != (components is None):
        raise ValueError("a PCA has mean and components")
    if components is not None and (components.shape != (projected, *mean.shape)):
        raise ValueError(f"components {components.shape} fit neither mean {mean.shape} nor centroids of {projected}")
    if scale is not None and scale.shape != (projected,):
        raise ValueError(f"scale {scale.shape} does not fit centroids of {projected} dimensions")


def _float32(tensor: torch.Tensor) -> NDArray[np.float32]:
    if tensor.dtype != torch.float32 or not torch.isfinite(tensor).all():
        raise ValueError(f"a tensor is {tensor.dtype}, or not finite; all are finite float32")
    values: NDArray[np.float32] = tensor.numpy()
    return values


def _groups(tensor: torch.Tensor) -> NDArray[np.int64]:
    if tensor.dtype != torch.int64 or tensor.min() < 0 or len(tensor.unique()) != int(tensor.max()) + 1:
        raise ValueError("groups are not int64 numbers from 0 without a gap")
    groups: NDArray[np.int64] = tensor.numpy()
    return groups


def _one_of(value: object, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return value
