"""Dense features of a data set on disk, computed once and read by every protocol.

A store is a folder: features.json (which encoder, framing and images, and the shapes), stems.json, the arrays of
`densessl.evaluation.feature_arrays`, and rejected.json (images that could not be used). `store_features` of
`densessl.evaluation.feature_writing` makes one.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.feature_arrays import RECORD, ArrayFile, array_file
from densessl.evaluation.framing import Framing
from densessl.evaluation.prototypes import DenseFeatures
from densessl.files import read_json
from densessl.structures import Rejection

STORE_FILE = "features.json"
STEMS_FILE = "stems.json"
REJECTED_FILE = "rejected.json"
_EXPECTED = "the description of a feature store"
_VERSION = 2  # raised whenever the files mean something else

Projection = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class StoreIdentity:
    """What a store holds features of; a folder of another identity is refused.

    encoder: description of the encoder. fingerprint: SHA-256 of its weights or source; None where it has none.
    precision: of its computation. images: SHA-256 of the stems, in order. num_images: how many there are.
    """

    encoder: str
    fingerprint: str | None
    precision: str
    framing: Framing
    images: str
    num_images: int


@dataclass(frozen=True)
class StoreLayout:
    """The shapes in a store.

    features: (dim, h, w) of each image. saliency: (height, width) of its logits, or None.
    has_projection: features are embedded after pooling, by a network that the store does not hold.
    """

    features: tuple[int, int, int]
    saliency: tuple[int, int] | None
    has_projection: bool


class FeatureStore:
    """The features of the images that could be encoded, in the order of the data set.

    Reading takes the memory of one image, from any number of processes; objects can be pickled where `project` can.

    folder: where it is. identity: of what. stems: of the images. sizes: their native (height, width).
    rejected: images left out, with the reason.
    """

    def __init__(
        self,
        folder: Path,
        identity: StoreIdentity,
        layout: StoreLayout,
        stems: Sequence[str],
        rejected: Sequence[Rejection],
        project: Projection | None = None,
    ) -> None:
        if layout.has_projection and project is None:
            raise InputError(
                f"the features in {folder} are embedded after pooling, by the head of {identity.encoder}; open them "
                "with that encoder"
            )
        self.folder, self.identity, self.rejected = folder, identity, tuple(rejected)
        self._layout, self._project = layout, project if layout.has_projection else None
        self._features, self._saliency, records = store_arrays(folder, layout, len(stems))
        for array in (self._features, self._saliency, records):
            if array is not None:
                array.check()
        found = records.read_all()
        self._rows: list[int] = np.flatnonzero(found["is_done"]).tolist()
        self._scales = found["scale"][self._rows]
        self.stems = tuple(stems[row] for row in self._rows)
        self.sizes = tuple((int(found["height"][row]), int(found["width"][row])) for row in self._rows)
        self.dim = layout.features[0] if self._project is None else _projected_dim(self._project, layout.features[0])
        """Dimensions of an embedded pixel (`pixels`)."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the feature maps."""
        return self._layout.features[1:]

    @property
    def has_saliency(self) -> bool:
        """Whether `dense` returns saliency logits."""
        return self._saliency is not None

    def dense(self, index: int) -> DenseFeatures:
        """Return the features of image `index`, in float32, as the encoder gave them for a batch of one."""
        row = self._rows[index]
        features = self._features.read(row).astype(np.float32) * self._scales[index]
        saliency = None
        if self._saliency is not None:
            saliency = torch.from_numpy(self._saliency.read(row).astype(np.float32))[None]
        return DenseFeatures(torch.from_numpy(features)[None], saliency, self._project)

    def pixels(self, index: int) -> NDArray[np.float32]:
        """Return the embedding of every pixel of image `index`, (dim, h, w)."""
        with torch.no_grad():
            embedded: NDArray[np.float32] = self.dense(index).pixels()[0].float().numpy()
        return embedded


def open_feature_store(folder: Path, project: Projection | None = None) -> FeatureStore:
    """Open a folder that `store_features` filled, in whole or in part.

    project: for a network that embeds masks (`FeatureEncoder.project`), what embeds pooled features.

    Raises:
        MissingInputError: no store there.
        InputError: a damaged one, or one whose features need `project`.
    """
    identity, layout = read_store(folder)
    stems = read_json(folder / STEMS_FILE, "the stems of a feature store")
    if not isinstance(stems, list) or len(stems) != identity.num_images or stems_hash(stems) != identity.images:
        raise InputError(f"{folder / STEMS_FILE} does not belong to {STORE_FILE}; compute the features again")
    path = folder / REJECTED_FILE
    rejected = read_json(path, "the images left out") if path.is_file() else []
    return FeatureStore(folder, identity, layout, stems, [Rejection(**item) for item in rejected], project)


def read_store(folder: Path) -> tuple[StoreIdentity, StoreLayout]:
    """Read features.json; raises `InputError` where it is no such file."""
    content = read_json(folder / STORE_FILE, _EXPECTED)
    try:
        if content["version"] != _VERSION:
            raise InputError(
                f"{folder} is a feature store of version {content['version']}; this one reads {_VERSION}; remove "
                "it, or choose another folder, and the features are computed again"
            )
        identity, layout = dict(content["identity"]), dict(content["layout"])
        framing = identity.pop("framing")
        height, width = framing["size_px"]
        saliency = layout["saliency"]
        return (
            StoreIdentity(framing=Framing((int(height), int(width)), framing["fit"]), **identity),
            StoreLayout(
                tuple(layout["features"]),  # type: ignore[arg-type]
                None if saliency is None else tuple(saliency),  # type: ignore[arg-type]
                bool(layout["has_projection"]),
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / STORE_FILE} lacks a part or holds a wrong one ({type(error).__name__}: {error}); expected "
            f"{_EXPECTED}"
        ) from error


def store_content(identity: StoreIdentity, layout: StoreLayout) -> dict[str, Any]:
    """Return the content of features.json."""
    return {"version": _VERSION, "identity": asdict(identity), "layout": asdict(layout)}


def check_same_identity(folder: Path, found: StoreIdentity, wanted: StoreIdentity) -> None:
    """Raise `InputError` where a folder holds features of something else; shows both."""
    there, here = asdict(found), asdict(wanted)
    differences = [f"{key}: {there[key]!r} there, {here[key]!r} now" for key in there if there[key] != here[key]]
    if differences:
        raise InputError(
            f"{folder} holds features of something else ({'; '.join(differences)}); choose another folder, or remove "
            "this one"
        )
    if wanted.fingerprint is None:
        raise InputError(
            f"{folder} holds features already, and encoder {wanted.encoder} has no fingerprint by which to tell that "
            "they are its own; choose another folder, or put the encoder into a module"
        )


def store_arrays(folder: Path, layout: StoreLayout, num_images: int) -> tuple[ArrayFile, ArrayFile | None, ArrayFile]:
    """Return the files of features, saliency (if any) and records."""
    features = array_file(folder / "features.npy", (num_images, *layout.features), np.float16)
    saliency = None
    if layout.saliency is not None:
        saliency = array_file(folder / "saliency.npy", (num_images, *layout.saliency), np.float16)
    return features, saliency, array_file(folder / "images.npy", (num_images,), RECORD)


def stems_hash(stems: Sequence[str]) -> str:
    """Return the SHA-256 of a list of stems."""
    return hashlib.sha256("\n".join(map(str, stems)).encode()).hexdigest()


def _projected_dim(project: Projection, dim: int) -> int:
    with torch.no_grad():
        return int(project(torch.zeros(1, dim)).shape[1])
