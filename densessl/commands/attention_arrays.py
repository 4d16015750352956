"""The arrays behind the pictures of `attention`: one .npz for each image, from which everything is drawn again."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from densessl.attention.maps import attention_maps
from densessl.attention.rollout import rollout
from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.files import file_sha256, write_atomically
from densessl.models.vision_encoder import VisionEncoder
from densessl.structures import ImageArray, ImageRef

_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class SeenImage:
    """What an encoder says of an image.

    features: float32 (height, width, dim) of the grid. size: (height, width) in pixels at which the encoder saw the
    image. native_size: of the image itself. cell_px: pixels of a cell at the size seen; the grid may stick out.
    maps: float32 (heads, height, width), attention of [CLS] in the chosen layer, and rollout (height, width); None for
    encoders without attention. others: features at other sizes, by the long side in pixels.
    """

    features: NDArray[np.float32]
    size: tuple[int, int]
    native_size: tuple[int, int]
    cell_px: int
    maps: NDArray[np.float32] | None
    rollout: NDArray[np.float32] | None
    others: dict[int, NDArray[np.float32]]

    def covered(self, shown: tuple[int, int]) -> tuple[float, float]:
        """Return (height, width) that the grid covers, in pixels of the image when it is shown at that size."""
        return covered_size(self.features.shape, self.cell_px, self.size, shown)

    def covered_at(self, size_px: int, shown: tuple[int, int]) -> tuple[float, float]:
        """Return the same for the features at another size."""
        return covered_size(self.others[size_px].shape, self.cell_px, scaled_size(self.native_size, size_px), shown)


def covered_size(
    grid: tuple[int, ...], cell_px: int, seen: tuple[int, int], shown: tuple[int, int]
) -> tuple[float, float]:
    """Return (height, width) of a grid of cells in pixels of an image seen at one size and shown at another."""
    return grid[0] * cell_px * shown[0] / seen[0], grid[1] * cell_px * shown[1] / seen[1]


def scaled_size(size: tuple[int, int], long_side_px: int | None) -> tuple[int, int]:
    """Return (height, width) with that long side, the aspect kept; None leaves the size as it is."""
    if long_side_px is None:
        return size
    scale = long_side_px / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def see_image(
    photo: ImageArray, encoder: VisionEncoder, layer: int, image_size: int | None, other_sizes: Sequence[int]
) -> SeenImage:
    """Run an image through the encoder, once at `image_size` and once at each of the other sizes."""
    native = (photo.shape[0], photo.shape[1])
    size = scaled_size(native, image_size)
    pixels = pixels_of(photo, size, encoder)
    if encoder.transformer is None:
        features, maps, rolled = _features(encoder, pixels), None, None
    else:
        attention = attention_maps(encoder.transformer, pixels, (layer,), for_rollout=True, with_features=True)
        maps, rolled = attention.maps[0, 0].cpu().numpy(), rollout(attention)[0].cpu().numpy()
        features = _cells_last(attention.features)
    others = {item: _features(encoder, pixels_of(photo, scaled_size(native, item), encoder)) for item in other_sizes}
    return SeenImage(features, size, native, encoder.stride, maps, rolled, others)


def store_image(
    path: Path, ref: ImageRef, encoder: VisionEncoder, layer: int, image_size: int | None, other_sizes: Sequence[int]
) -> None:
    """Write the arrays of an image; raises `InputError` where the image is unusable or features are not finite."""
    digest = file_sha256(ref.path)
    seen = see_image(read_image(ref.path), encoder, layer, image_size, other_sizes)
    for values in (seen.features, *seen.others.values(), *(() if seen.maps is None else (seen.maps,))):
        if not np.isfinite(values).all():
            raise InputError("the encoder's values are not finite; its weights may be damaged or of another network")
    arrays: dict[str, Any] = {
        "features": seen.features,
        "size": np.array(seen.size),
        "native_size": np.array(seen.native_size),
        "cell_px": np.array(seen.cell_px),
        "image_sha256": np.array(digest),
        **{f"features_{size}": values for size, values in seen.others.items()},
    }
    if seen.maps is not None and seen.rollout is not None:
        arrays |= {"attention": seen.maps, "rollout": seen.rollout}
    write_atomically(path, lambda temporary: np.savez(temporary, **arrays))


def is_stored(path: Path, ref: ImageRef) -> bool:
    """Say whether whole arrays of this very image are there; a file of the same name may hold another by now."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return str(stored["image_sha256"]) == file_sha256(ref.path)
    except (FileNotFoundError, *_DAMAGED):
        return False


def read_seen(path: Path) -> SeenImage:
    """Read the arrays of an image; raises `InputError` for a file that is not whole."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        height, width = (int(value) for value in found["size"])
        native = (int(found["native_size"][0]), int(found["native_size"][1]))
        others = {int(name.split("_")[1]): found[name] for name in found if name.startswith("features_")}
        maps, rolled = found.get("attention"), found.get("rollout")
        return SeenImage(found["features"], (height, width), native, int(found["cell_px"]), maps, rolled, others)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def read_features(path: Path) -> NDArray[np.float32]:
    """Read the features (height, width, dim) of an image alone; raises as `read_seen`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["features"]
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged ({error}); remove it, and the image is looked at again")


def pixels_of(photo: ImageArray, size: tuple[int, int], encoder: VisionEncoder) -> torch.Tensor:
    """Return an image as the encoder wants it, (1, 3, height, width), on its device."""
    if photo.shape[:2] != size:
        shrinks = size[0] < photo.shape[0]
        photo = np.asarray(cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
    return encoder.normalise(torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255)


@torch.no_grad()
def _features(encoder: VisionEncoder, pixels: torch.Tensor) -> NDArray[np.float32]:
    return _cells_last(encoder.feature_map(pixels))


def _cells_last(features: torch.Tensor | None) -> NDArray[np.float32]:
    if features is None:
        raise InputError("no features were kept; ask for them with with_features")
    return np.ascontiguousarray(features[0].float().permute(1, 2, 0).cpu().numpy())
