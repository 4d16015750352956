"""What the untrained part of a promptable model's encoder makes of images, on disk: encoded once, in bounded size.

<folder>/features.json                 what decides the features; they are encoded anew where it differs
<folder>/<version>-<first image>.npy   float16, one row for each of `_CHUNK` images; version 1 is mirrored
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from torch.utils.data import Dataset, Sampler

from densessl.data.views import SampleKey
from densessl.errors import InputError
from densessl.files import make_folder, read_json, remove_abandoned_writes, state_of_files, write_atomically, write_json
from densessl.promptable.object_views import framed_image
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.structures import ImageRef
from densessl.training.batches import draw_batches

Encode = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]

IDENTITY_FILE = "features.json"
_CHUNK = 16
_CHUNK_NAME = re.compile(r"[01]-\d{7,}\.npy", re.ASCII)


class StoredFeatures:
    """Features of images by stem; cheap to pickle, for loader processes.

    places: of the images that are stored. shapes: (channels, h, w) of each map.
    """

    def __init__(self, folder: Path, places: Mapping[str, int], shapes: tuple[tuple[int, ...], ...]) -> None:
        self.folder, self.places, self.shapes = folder, places, shapes

    def read(self, stem: str, *, is_flipped: bool) -> tuple[torch.Tensor, ...] | None:
        """Return the features of an image, float32 (channels, h, w) each, `None` where they are not stored."""
        place = self.places.get(stem)
        if place is None:
            return None
        chunk, row = divmod(place, _CHUNK)
        stored = np.load(chunk_path(self.folder, chunk, is_flipped=is_flipped), mmap_mode="r", allow_pickle=False)
        values = torch.from_numpy(np.array(stored[row])).float()
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        parts = torch.tensor_split(values, ends[:-1].tolist())
        return tuple(part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))


def store_features(
    fabric: Fabric,
    encode: Encode,
    images: tuple[ImageRef, ...],
    settings: PromptableSettings,
    folder: Path,
    max_bytes: float,
    num_workers: int,
    encoder_sha256: str,
    *,
    is_mirrored_too: bool,
) -> StoredFeatures:
    """Encode the images that fit into `max_bytes` and are not in the folder yet; processes share the work.

    Each file is written as a whole, so that a killed run goes on with the next one.

    Args:
        fabric: device, precision and processes.
        encode: maps framed images (batch, 3, side, side) to feature maps; nothing in it is trained.
        images: in the order in which they find a place.
        settings: of the model, which say how images are framed.
        folder: of the files.
        max_bytes: of all files.
        num_workers: loader processes; -1 chooses by the number of cores.
        encoder_sha256: of the weights behind `encode`.
        is_mirrored_too: store every image mirrored as well.

    Raises:
        InputError: a folder that holds something else.
    """
    side = settings.size_px
    with torch.no_grad(), fabric.autocast():
        shapes = tuple(tuple(maps.shape[1:]) for maps in encode(torch.zeros(1, 3, side, side, device=fabric.device)))
    versions = (False, True) if is_mirrored_too else (False,)
    per_image = 2 * len(versions) * sum(int(np.prod(shape)) for shape in shapes)
    num_images = min(len(images), int(max_bytes // per_image))
    if fabric.is_global_zero:
        _claim(folder, _identity(images, settings, fabric.strategy.precision.precision, encoder_sha256, shapes))
        _say(f"features of {num_images} of {len(images)} images are stored ({num_images * per_image / 1e9:.2f} GB)")
    fabric.barrier()
    for is_flipped in versions:
        wanted = [
            chunk
            for chunk in range(fabric.global_rank, -(-num_images // _CHUNK), fabric.world_size)
            if not chunk_path(folder, chunk, is_flipped=is_flipped).is_file()
        ]
        frames = _Frames(images, settings, is_flipped=is_flipped)
        batches = draw_batches(frames, _Chunks(wanted, len(images)), num_workers, torch.stack, fabric.device)
        for chunk, batch in zip(wanted, batches, strict=True):
            rows = _encode(fabric, encode, batch)
            path = chunk_path(folder, chunk, is_flipped=is_flipped)
            write_atomically(path, lambda place, values=rows: np.save(place, values))  # type: ignore[misc]
    fabric.barrier()
    places = {ref.stem: place for place, ref in enumerate(images[:num_images])}
    return StoredFeatures(folder, places, shapes)


@torch.no_grad()
def encode_once(fabric: Fabric, encode: Encode, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Encode images as `store_features` does, rounded as what is stored, so that it makes no difference to a step."""
    with fabric.autocast():
        maps = encode(fabric.to_device(images))
    return tuple(one.half().float() for one in maps)


def chunk_path(folder: Path, chunk: int, *, is_flipped: bool) -> Path:
    """Return the file of a chunk of images."""
    return folder / f"{int(is_flipped)}-{chunk * _CHUNK:07d}.npy"


class _Frames(Dataset[torch.Tensor]):
    """Framed images (3, side, side)."""

    def __init__(self, images: tuple[ImageRef, ...], settings: PromptableSettings, *, is_flipped: bool) -> None:
        self.images, self.settings, self.is_flipped = images, settings, is_flipped

    def __getitem__(self, key: SampleKey) -> torch.Tensor:  # type: ignore[override]
        return framed_image(self.images[key.index], self.settings, is_flipped=self.is_flipped)[0]


class _Chunks(Sampler[list[SampleKey]]):
    """Yields the images of each wanted chunk; the last chunk of all may be shorter."""

    def __init__(self, wanted: list[int], num_images: int) -> None:
        self.wanted, self.num_images = wanted, num_images

    def __len__(self) -> int:
        return len(self.wanted)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for chunk in self.wanted:
            stop = min((chunk + 1) * _CHUNK, self.num_images)
            yield [SampleKey(0, 0, index) for index in range(chunk * _CHUNK, stop)]


def _encode(fabric: Fabric, encode: Encode, images: torch.Tensor) -> NDArray[np.float16]:
    maps = encode_once(fabric, encode, images)
    return torch.cat([one.flatten(1) for one in maps], dim=1).half().cpu().numpy()


def _identity(
    images: tuple[ImageRef, ...],
    settings: PromptableSettings,
    precision: str,
    encoder_sha256: str,
    shapes: tuple[tuple[int, ...], ...],
) -> dict[str, Any]:
    files = state_of_files(ref.path for ref in images)
    maps = [list(shape) for shape in shapes]
    return {
        "images": files,
        "size_px": settings.size_px,
        "precision": precision,
        "encoder": encoder_sha256,
        "maps": maps,
    }


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Remove stored features that are others, and write down what the new ones are; nothing else is touched."""
    make_folder(folder)
    path = folder / IDENTITY_FILE
    if path.is_file():
        found = read_json(path, "what features are stored")
        if not isinstance(found, dict) or found.keys() | {"maps"} != identity.keys():  # earlier versions: without maps
            raise InputError(f"{path} is no record of stored features; choose another folder (training.cache)")
        if found == identity:
            return
        differing = [key for key, value in identity.items() if found.get(key) != value]
        _say(f"{folder} holds features of other {', '.join(differing)}; the images are encoded again")
        for file in folder.iterdir():
            if _CHUNK_NAME.fullmatch(file.name):
                file.unlink()
    else:
        remove_abandoned_writes(folder)
        if any(folder.iterdir()):
            raise InputError(
                f"{folder} is not empty and has no {IDENTITY_FILE}, so it holds no stored features; choose a new or an "
                "empty folder (training.cache)"
            )
    write_json(path, identity)


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
