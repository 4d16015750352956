"""Embedded images on the disk, a part at a time, so that a call which was stopped does not embed them again."""

import contextlib
import io
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
from densessl.files import check_unused_folder, make_folder, write_bytes, write_json
from densessl.structures import ImageRef, Rejection

PARTS_FOLDER = "embedded_parts"
PART_SECONDS = 10.0
"""A part is written this often, and when the work ends with an error; a kill loses no more."""

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

    Parts hold whole batches, so that a call which goes on forms the same batches as one that was never stopped.

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
    number = _begin(folder, identity)
    known = dict(_read_parts(folder))
    state_of = {ref.stem: state for ref, state in zip(images, states, strict=True)}
    results = {stem: item for stem, (state, item) in known.items() if state_of.get(stem) == state}
    todo = [ref for ref in images if ref.stem not in results]
    waiting: list[Embedded] = []
    new = embed(todo)
    last_write = time.monotonic()

    def write_waiting() -> None:
        nonlocal number, last_write
        num_whole = len(waiting) // batch_size * batch_size
        if num_whole:
            part, waiting[:] = waiting[:num_whole], waiting[num_whole:]
            write_bytes(folder / f"{number:06d}.npz", _encoded(part, [state_of[item.stem] for item in part]))
            number += 1
        last_write = time.monotonic()

    try:
        for ref in images:
            if ref.stem in results:
                yield results.pop(ref.stem)
                continue
            item = next(new)
            waiting.append(item)
            if time.monotonic() - last_write >= PART_SECONDS:
                write_waiting()
            yield item
    finally:
        write_waiting()


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


def _encoded(part: Sequence[Embedded], states: Sequence[str]) -> bytes:
    """Return results as the bytes of an .npz file; images' arrays lie one behind the other."""
    images = [item for item in part if isinstance(item, EmbeddedImage)]
    grids = [image.features for image in images if image.features is not None]
    arrays: dict[str, NDArray[Any]] = {
        "stems": np.array([item.stem for item in part]),
        "states": np.array(states),
        "reasons": np.array([item.reason if isinstance(item, Rejection) else "" for item in part]),
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
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


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
