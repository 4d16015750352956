"""Which images resemble which, by the features of the network before training; found once per run."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from densessl.data.masks import MaskFolder
from densessl.errors import InputError
from densessl.evaluation.extraction import EmbeddedImage, embed_images
from densessl.evaluation.neighbours import nearest_neighbours
from densessl.evaluation.network_features import NetworkFeatures
from densessl.evaluation.protocols import protocol_by_name
from densessl.files import state_of_files, write_atomically
from densessl.machine import loader_processes
from densessl.models.dense_encoder import state_sha256
from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.models.precision import on_device
from densessl.structures import ImageRef


def find_neighbours(
    run: Path,
    model: MaskContrastModel,
    images: tuple[ImageRef, ...],
    masks: MaskFolder,
    num_neighbours: int,
    image_size_px: int,
    device: torch.device,
    *,
    are_known: bool = False,
) -> NDArray[np.int64]:
    """Return the neighbours of each image (num_images, num_neighbours), and keep them in the run folder.

    The encoder's features are averaged over each image's mask, as the `native` protocol does; of several masks the
    unit vectors are added. What a run found before it was cut off is taken where it is of the same images, masks and
    weights.

    Args:
        run: the run folder; `neighbours.npz` is written or read.
        model: the network with its initial weights.
        images: the images that are trained on.
        masks: their masks.
        num_neighbours: how many.
        image_size_px: height and width that images are brought to.
        device: where the network works.
        are_known: the run found them before it was interrupted, and can only go on with these.

    Raises:
        InputError: too few images, or the run folder holds neighbours of other images.
    """
    path = run / "neighbours.npz"
    identity = _identity(model, images, masks, num_neighbours, image_size_px)
    if not are_known:
        if path.is_file():
            with np.load(path, allow_pickle=False) as found:
                if "identity" in found and str(found["identity"]) == identity:
                    return np.asarray(found["neighbours"], dtype=np.int64)
        neighbours = nearest_neighbours(_embed(model, images, masks, image_size_px, device), num_neighbours)
        stems = np.array([ref.stem for ref in images])

        def write(temporary: Path) -> None:
            np.savez_compressed(temporary, neighbours=neighbours, stems=stems, identity=np.array(identity))

        write_atomically(path, write)
        return neighbours
    if not path.is_file():
        raise InputError(f"{path} is missing, so the run cannot go on exactly; start a new run in another folder")
    with np.load(path, allow_pickle=False) as found:
        if found["stems"].tolist() != [ref.stem for ref in images] or found["neighbours"].shape[1] != num_neighbours:
            raise InputError(
                f"{path} holds the neighbours of other images or another number of them; resume with the images and "
                "the configuration the run began with, or start a new run in another folder"
            )
        return np.asarray(found["neighbours"], dtype=np.int64)


def _identity(
    model: MaskContrastModel, images: tuple[ImageRef, ...], masks: MaskFolder, num_neighbours: int, image_size_px: int
) -> str:
    """Return a digest of what decides the neighbours."""
    files = [state_of_files(ref.path for ref in images), state_of_files(masks.files[ref.stem] for ref in images)]
    parts = [state_sha256(model.encoder), num_neighbours, image_size_px, *files]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def _embed(
    model: MaskContrastModel,
    images: tuple[ImageRef, ...],
    masks: MaskFolder,
    image_size_px: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return one feature vector for each image (num_images, channels)."""
    encode = NetworkFeatures(on_device(model, device), "encoder")
    workers = loader_processes(-1)
    protocol = protocol_by_name("native", image_size_px)
    embedded = embed_images(images, encode, protocol, "masks", masks, num_workers=workers, device=device)
    rows = []
    for item in track(embedded, "neighbours", total=len(images), console=Console(stderr=True)):
        if not isinstance(item, EmbeddedImage):
            raise InputError(f"image {item.stem!r} has no neighbours: {item.reason}; mend it or take it away")
        rows.append(item.vectors.sum(axis=0))
    return np.stack(rows)
