"""Filling a feature store: each image encoded once, whatever stops the process in between."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from densessl.errors import InputError
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.feature_store import (
    REJECTED_FILE,
    STORE_FILE,
    FeatureStore,
    StoreIdentity,
    StoreLayout,
    check_same_identity,
    open_feature_store,
    read_store,
    stems_hash,
    store_arrays,
)
from densessl.evaluation.framed_images import BadMask, FramedImage, load_framed_images
from densessl.evaluation.framing import Framing
from densessl.evaluation.store_writer import StoreWriter
from densessl.files import make_folder, remove_abandoned_writes, write_json
from densessl.structures import ImageRef, Rejection


def store_features(
    folder: Path,
    images: Sequence[ImageRef],
    encoder: FeatureEncoder,
    framing: Framing,
    *,
    batch_size: int = 8,
    num_workers: int = 0,
) -> FeatureStore:
    """Encode the images into a folder, those that it does not hold yet, and return the features of all.

    Loader processes read images ahead of the encoder, and a thread brings features to the disk behind it. Features are
    kept as float16 with a factor for each image (`to_float16`), saliency logits as float16. An image that cannot be
    read costs one line and is tried again by the next call, and so is one whose file has another length or date than
    then. What a call will take on the disk is said before it begins, and checked.

    Args:
        folder: new, empty, or filled by an earlier call with the same encoder, framing and stems.
        images: in the order that the store will have.
        encoder: with its identity; see `FeatureEncoder`.
        framing: the frame of the images.
        batch_size: images for each call of the encoder.
        num_workers: loader processes; with 0 nothing is read ahead.

    Raises:
        InputError: a folder of other features, features that are not finite or change their shape (names the image), a
            disk without room (what is finished stays, and the next call goes on), no image that could be encoded.
    """
    stems = [ref.stem for ref in images]
    identity = StoreIdentity(
        encoder.description, encoder.fingerprint, encoder.precision, framing, stems_hash(stems), len(stems)
    )
    make_folder(folder)
    remove_abandoned_writes(folder)
    layout = _known_layout(folder, identity)
    file_states = np.array([_file_state(ref) for ref in images], dtype=np.int64)
    is_marked = is_done = np.zeros(len(images), dtype=bool)
    if layout is not None:
        records = store_arrays(folder, layout, len(images))[2].read_all()
        is_marked = records["is_done"] == 1
        is_done = is_marked & (records["file_state"] == file_states)
    todo: list[int] = np.flatnonzero(~is_done).tolist()
    if todo:
        stale: list[int] = np.flatnonzero(is_marked & ~is_done).tolist()
        if stale:
            Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
                f"{len(stale)} images have files of another length or date than when they were encoded: done again"
            )
        writer = StoreWriter(folder, identity, stems, layout, file_states, stale)
        rejected = _encode(writer, [images[row] for row in todo], todo, encoder, framing, batch_size, num_workers)
        if len(rejected) == len(images):
            raise InputError(f"none of {len(images)} images could be encoded; the first: {rejected[0].reason}")
        write_json(folder / REJECTED_FILE, [asdict(item) for item in rejected])
    return open_feature_store(folder, encoder.project)


def _known_layout(folder: Path, identity: StoreIdentity) -> StoreLayout | None:
    """Return the layout of a folder that was begun with this identity, None where it was not begun."""
    if not (folder / STORE_FILE).is_file():
        return None
    found, layout = read_store(folder)
    check_same_identity(folder, found, identity)
    return layout


def _file_state(ref: ImageRef) -> int:
    """Return 63 bits that tell the length and date of an image's file, wherever it lies; -1 where there is none."""
    try:
        found = ref.path.stat()
    except OSError:
        return -1
    digest = hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@torch.no_grad()
def _encode(
    writer: StoreWriter,
    images: Sequence[ImageRef],
    rows: Sequence[int],
    encoder: FeatureEncoder,
    framing: Framing,
    batch_size: int,
    num_workers: int,
) -> list[Rejection]:
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    rejected: list[Rejection] = []
    start, num_encoded = time.perf_counter(), 0
    batches = load_framed_images(images, framing, batch_size=batch_size, num_workers=num_workers)
    places = iter(rows)
    num_batches = -(-len(images) // batch_size)
    with writer:
        for items in track(batches, "encode", total=num_batches, console=console, disable=not console.is_terminal):
            good: list[tuple[int, FramedImage]] = []
            for item, row in zip(items, places, strict=False):
                if isinstance(item, FramedImage):
                    good.append((row, item))
                else:
                    rejected.append(_left_out(item, console))
            if good:
                dense = encoder.encode(torch.stack([item.tensor for _, item in good]).to(encoder.device))
                writer.write(good, dense, console)
                num_encoded += len(good)
    seconds = time.perf_counter() - start
    left_out = f", {len(rejected)} left out" if rejected else ""
    console.print(f"{num_encoded} images encoded in {seconds:.1f} s, {num_encoded / seconds:.1f} a second{left_out}")
    return rejected


def _left_out(item: Rejection | BadMask, console: Console) -> Rejection:
    rejection = Rejection(item.stem, str(item.error)) if isinstance(item, BadMask) else item
    console.print(f"left out {rejection.stem}: {rejection.reason}")
    return rejection
