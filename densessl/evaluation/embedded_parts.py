"""Embedded images on the disk, a part at a time, so that a call which was stopped does not embed them again."""

import contextlib
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from densessl import __version__
from densessl.data.masks import MaskFolder
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.extraction import EmbeddedImage, Foreground, mask_weighting
from densessl.evaluation.protocols import ClusterProtocol
from densessl.files import check_unused_folder, make_folder, write_atomically, write_json
from densessl.structures import ImageRef, Rejection

PARTS_FOLDER = "embedded_parts"
PART_SECONDS = 10.0
"""A part is written this often, and when the work ends with an error; a kill loses no more."""
PART_BYTES = 2**28
"""So it is where this much waits: grids of features are large."""

_IDENTITY_FILE = "identity.json"
_TEXTS = ("stems", "states", "reasons")

Embedded = EmbeddedImage | Rejection


def embed_in_parts(
    folder: Path,
    identity: Mapping[str, Any],
    images: Sequence[ImageRef],
    states: Sequence[str],
    embed: Callable[[Sequence[ImageRef]], Iterator[Embedded]],
    batch_size: int,
) -> Iterator[Embedded]:
    """Yield what `embed` gives for each image, in order; what an earlier call wrote down is read in place of that.

    Parts hold whole batches, so that a call which goes on forms the same batches as one that was never stopped. Images
    that were left out are tried again.

    Args:
        folder: of the parts; made where it is not there.
        identity: whatever changes the results, of plain JSON types; parts of another identity are removed.
        images: in the order of the results.
        states: for each image, what changes when its files do; an image of another state is embedded again.
        embed: yields one result for each of the images that it is given, in their order.
        batch_size: images that `embed` takes together.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    writer = _PartWriter(folder, _begin(folder, identity), batch_size)
    known = dict(_read_parts(folder))
    state_of = {ref.stem: state for ref, state in zip(images, states, strict=True)}
    known = {stem: (state, item) for stem, (state, item) in known.items() if state_of.get(stem) == state}
    is_tried_again = {stem for stem, (_, item) in known.items() if isinstance(item, Rejection)}
    new = embed([ref for ref in images if ref.stem not in known])
    again = embed([ref for ref in images if ref.stem in is_tried_again])
    try:
        for ref in images:
            if ref.stem in is_tried_again:
                yield next(again)
            elif ref.stem in known:
                yield known.pop(ref.stem)[1]
            else:
                item = next(new)
                writer.add(state_of[ref.stem], item)
                yield item
    finally:
        writer.write()


class _PartWriter:
    """Collects results and writes them in whole batches, every few seconds or megabytes."""

    def __init__(self, folder: Path, number: int, batch_size: int) -> None:
        self._folder, self._number, self._batch_size = folder, number, batch_size
        self._waiting: list[tuple[str, Embedded]] = []
        self._num_bytes = 0
        self._last_write = time.monotonic()

    def add(self, state: str, item: Embedded) -> None:
        """Take a result; it may be written now, or later."""
        self._waiting.append((state, item))
        self._num_bytes += _num_bytes(item)
        if time.monotonic() - self._last_write >= PART_SECONDS or self._num_bytes >= PART_BYTES:
            self.write()

    def write(self) -> None:
        """Write the whole batches that wait; the rest waits on."""
        num_whole = len(self._waiting) // self._batch_size * self._batch_size
        if num_whole:
            arrays = _encoded(self._waiting[:num_whole])
            path = self._folder / f"{self._number:06d}.npz"
            write_atomically(path, lambda temporary: np.savez(temporary, **arrays))  # type: ignore[arg-type]
            del self._waiting[:num_whole]
            self._number += 1
        self._num_bytes = sum(_num_bytes(item) for _, item in self._waiting)
        self._last_write = time.monotonic()


def _num_bytes(item: Embedded) -> int:
    if isinstance(item, Rejection):
        return 0
    return item.vectors.nbytes + len(item.instances) + (0 if item.features is None else item.features.nbytes)


def parts_identity(
    encoder: FeatureEncoder, protocol: ClusterProtocol, foreground: Foreground, masks: MaskFolder | None
) -> dict[str, Any]:
    """Return what embedded images depend on, besides their files and masks."""
    return {
        "encoder": encoder.description,
        "fingerprint": encoder.fingerprint,
        "precision": encoder.precision,
        "device": encoder.device.type,
        "image_size_px": list(protocol.image_size_px),
        "weighting": mask_weighting(protocol, foreground),
        "foreground": foreground,
        "masks": None if masks is None else str(masks.code),
        "versions": [__version__, torch.__version__],
    }


def remove_parts(folder: Path) -> None:
    """Remove the parts of a call that has come to its end; a folder of anything else stays."""
    if (folder / _IDENTITY_FILE).is_file():
        shutil.rmtree(folder, ignore_errors=True)


def _begin(folder: Path, identity: Mapping[str, Any]) -> int:
    """Make the folder one of this identity, and return the number of the next part."""
    make_folder(folder)
    path = folder / _IDENTITY_FILE
    if not path.is_file():
        check_unused_folder(folder, "cluster", _IDENTITY_FILE)
        write_json(path, dict(identity))
    elif _content(path) != json.loads(json.dumps(dict(identity))):
        for part in folder.glob("*.npz"):
            part.unlink()
        write_json(path, dict(identity))
    return max((int(part.stem) + 1 for part in _parts(folder)), default=0)


def _parts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if path.stem.isdecimal())


def _content(path: Path) -> Any:
    with contextlib.suppress(ValueError, OSError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _read_parts(folder: Path) -> Iterator[tuple[str, tuple[str, Embedded]]]:
    """Yield stem, state and result of every image in the parts; one that is damaged is removed."""
    for path in _parts(folder):
        try:
            with np.load(path, allow_pickle=False) as stored:
                found = _decoded({name: stored[name] for name in stored.files})
        except (OSError, ValueError, KeyError, EOFError, IndexError, StopIteration, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            continue
        for state, item in found:
            yield item.stem, (state, item)


def _encoded(part: Sequence[tuple[str, Embedded]]) -> dict[str, NDArray[Any]]:
    """Return states and results as arrays; those of the images lie one behind the other."""
    states, items = zip(*part, strict=True)
    images = [item for item in items if isinstance(item, EmbeddedImage)]
    grids = [image.features for image in images if image.features is not None]
    arrays: dict[str, NDArray[Any]] = {
        "stems": np.array([item.stem for item in items]),
        "states": np.array(states),
        "reasons": np.array([item.reason if isinstance(item, Rejection) else "" for item in items]),
        "sizes": np.array([image.size for image in images], dtype=np.int64).reshape(-1, 2),
        "counts": np.array([len(image.vectors) for image in images], dtype=np.int64),
        "lengths": np.array([len(image.instances) for image in images], dtype=np.int64),
        "instances": np.frombuffer(b"".join(image.instances for image in images), dtype=np.uint8),
    }
    if images:
        arrays["vectors"] = np.concatenate([image.vectors for image in images])
        arrays["has_prototype"] = np.concatenate([image.has_prototype for image in images])
    if grids:
        arrays["features"] = np.stack(grids)
    return arrays


def _decoded(arrays: Mapping[str, NDArray[Any]]) -> list[tuple[str, Embedded]]:
    """Return state and result of each image in a part."""
    images = iter(_images(arrays))
    return [
        (state, Rejection(stem, reason) if reason else next(images))
        for stem, state, reason in zip(*(arrays[name].tolist() for name in _TEXTS), strict=True)
    ]


def _images(arrays: Mapping[str, NDArray[Any]]) -> Iterator[EmbeddedImage]:
    stems = arrays["stems"][arrays["reasons"] == ""].tolist()
    if not stems:
        return
    ends, pixel_ends = np.cumsum(arrays["counts"])[:-1], np.cumsum(arrays["lengths"])[:-1]
    vectors, has_prototype = (np.split(arrays[name], ends) for name in ("vectors", "has_prototype"))
    instances = np.split(arrays["instances"], pixel_ends)
    for row, stem in enumerate(stems):
        height, width = arrays["sizes"][row].tolist()
        grid = arrays["features"][row] if "features" in arrays else None
        yield EmbeddedImage(stem, vectors[row], has_prototype[row], instances[row].tobytes(), grid, (height, width))
