"""The masks of a data set with their prototypes, as `embedding_space` pools, writes and reads them."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from densessl.data.masks import MaskFolder
from densessl.errors import InputError
from densessl.evaluation.encoder_features import FeatureEncoder
from densessl.evaluation.extraction import EmbeddedImage, decode_instances, embed_images
from densessl.evaluation.protocols import ClusterProtocol
from densessl.files import write_atomically, write_bytes
from densessl.mask_geometry import object_box
from densessl.structures import ImageRef, Rejection

EMBEDDINGS_FILE = "embeddings.npz"


@dataclass(frozen=True)
class EmbeddedMasks:
    """Masks, one a row.

    vectors: float32 (num, dim), unit length. stems: of their images. numbers: (num,), from 1, in the image's mask.
    boxes: (num, 4), `(x0, y0, x1, y1)` pixels, upper bounds exclusive. areas_px: (num,). sizes: (num, 2), (height,
    width) of the image.
    """

    vectors: NDArray[np.float32]
    stems: tuple[str, ...]
    numbers: NDArray[np.int64]
    boxes: NDArray[np.int64]
    areas_px: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.stems)

    def box(self, row: int) -> tuple[int, int, int, int]:
        x0, y0, x1, y1 = self.boxes[row].tolist()
        return x0, y0, x1, y1

    def size(self, row: int) -> tuple[int, int]:
        return int(self.sizes[row, 0]), int(self.sizes[row, 1])

    def image_numbers(self) -> NDArray[np.int64]:
        """Return a number for the image of each mask, (num,)."""
        return np.unique(np.array(self.stems), return_inverse=True)[1].astype(np.int64)

    def name(self, row: int) -> str:
        """Return the stem of a mask's image, and the number of the mask where the image has several."""
        stem = self.stems[row]
        alone = self.stems.count(stem) == 1
        return stem if alone else f"{stem}:{int(self.numbers[row])}"


@dataclass(frozen=True)
class Pooling:
    """How masks are pooled: size and weights of the protocol, masks of a folder or of the saliency head.

    split_masks: count the connected regions of plain masks as masks of their own.
    """

    protocol: ClusterProtocol
    masks: MaskFolder | None
    split_masks: bool
    batch_size: int
    num_workers: int


def pool_masks(
    images: Sequence[ImageRef], encoder: FeatureEncoder, pooling: Pooling, folder: Path
) -> tuple[EmbeddedMasks, list[Rejection]]:
    """Pool every mask of every image, and write the numbered masks to `folder`/STEM.png; one batch at a time.

    Returns the masks, and the images and masks that were left out: broken ones, and those without a pixel.

    Raises:
        InputError: features that are not finite, or no mask at all.
    """
    results = embed_images(
        images,
        encoder.encode,
        pooling.protocol,
        "head" if pooling.masks is None else "masks",
        pooling.masks,
        split_instances=pooling.split_masks,
        batch_size=pooling.batch_size,
        num_workers=pooling.num_workers,
        device=encoder.device,
        reject_bad_masks=True,
    )
    found: list[EmbeddedMasks] = []
    rejected: list[Rejection] = []
    for item in track(results, "embed", total=len(images), console=Console(stderr=True), transient=True):
        if not isinstance(item, EmbeddedImage):
            rejected.append(item)
            continue
        masks, faults = _of_image(item)
        rejected += faults
        if len(masks):
            write_bytes(folder / f"{item.stem}.png", item.instances)
            found.append(masks)
    if not found:
        first = f"; the first: {rejected[0].stem}: {rejected[0].reason}" if rejected else ""
        raise InputError(f"none of {len(images)} images has a mask that could be embedded{first}")
    return _joined(found), rejected


def write_embeddings(
    path: Path,
    masks: EmbeddedMasks,
    places: NDArray[np.float32] | None = None,
    clusters: NDArray[np.int64] | None = None,
) -> None:
    """Write the arrays of masks, with their places in the plane, (num, 2), and their clusters, (num,), if known."""
    known = {"places": places, "clusters": clusters}
    arrays = {
        **{name: values for name, values in known.items() if values is not None},
        "vectors": masks.vectors,
        "stems": np.array(masks.stems),
        "numbers": masks.numbers,
        "boxes": masks.boxes,
        "areas_px": masks.areas_px,
        "sizes": masks.sizes,
    }
    write_atomically(path, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]


def read_embeddings(path: Path) -> EmbeddedMasks:
    """Read the masks that `write_embeddings` wrote; raises `InputError` for a file that is not whole."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return EmbeddedMasks(
                stored["vectors"],
                tuple(stored["stems"].tolist()),
                *(stored[name] for name in ("numbers", "boxes", "areas_px", "sizes")),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and the masks are embedded again") from error


def _of_image(image: EmbeddedImage) -> tuple[EmbeddedMasks, list[Rejection]]:
    """Return the masks of an image that have a prototype, and those that have none."""
    if not np.isfinite(image.vectors).all():
        raise InputError(
            f"a prototype of image {image.stem!r} holds NaN or infinity; check the weights the features come from (did "
            "training diverge?)"
        )
    instances = decode_instances(image)
    numbers, boxes, areas, rejected = [], [], [], []
    for number in range(1, len(image.vectors) + 1):
        mask = instances == number
        area = int(np.count_nonzero(mask))
        if area and not image.has_prototype[number - 1]:
            rejected.append(Rejection(image.stem, f"mask {number} has no prototype: its features cancel out"))
        elif area:
            numbers.append(number)
            boxes.append(object_box(mask))
            areas.append(area)
    if not numbers and not rejected:
        rejected.append(Rejection(image.stem, "its mask is empty"))
    rows = np.array(numbers, dtype=np.int64)
    return (
        EmbeddedMasks(
            image.vectors[rows - 1],
            (image.stem,) * len(rows),
            rows,
            np.array(boxes, dtype=np.int64).reshape(-1, 4),
            np.array(areas, dtype=np.int64),
            np.tile(np.array(image.size, dtype=np.int64), (len(rows), 1)),
        ),
        rejected,
    )


def _joined(parts: Sequence[EmbeddedMasks]) -> EmbeddedMasks:
    return EmbeddedMasks(
        np.concatenate([part.vectors for part in parts]),
        tuple(stem for part in parts for stem in part.stems),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("numbers", "boxes", "areas_px", "sizes")
        ),
    )
