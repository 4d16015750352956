"""The default estimator's evidence, and that of a network that learned from many photographs what is background.

The default compares what lies in the middle of one photograph with its own border. A network that saw many photographs
knows what borders are filled with, such as grass, sky, water and floors, and finds it in the middle of any.
"""

import functools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from densessl.data.normalisation import normalise_image
from densessl.data.patch_views import resize_long_side
from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.models.patch_network import (
    FIELD_PX,
    SIZE_PX,
    STRIDE_PX,
    PatchNetwork,
    PatchNetworkHeader,
    load_patch_network,
)
from densessl.saliency.colour import FloatMap, resize_map
from densessl.saliency.fused import fused
from densessl.structures import ImageArray

WEIGHT = 0.5
"""Of the network's logit beside the default's. Of 0.25, 0.5, 1, 1.5 and 2 it was best for first-round networks on 200
photographs, whose labels were looked at; for those of the second round 0.25 to 0.75 are alike (docs/decisions.md)."""
SMOOTHING_PX = 2.5
"""Width of the Gaussian over the network's logits, in pixels of its copy: little more than half a cell."""
_SURE = 0.99
"""The default's map is taken between this probability and its opposite."""


def learned_patches(image: ImageArray, path: Path | None) -> FloatMap:
    """Return the soft foreground map (height, width), in [0, 1], of a uint8 RGB image (height, width, 3).

    `sigmoid(logit(f) + WEIGHT * (g * b))`: f the map of `fused`, b the logits of the network of a file, convolved with
    a Gaussian g.

    Raises:
        InputError: no file, or one that is no patch network.
    """
    network, _ = _open(path)
    default = np.clip(fused(image), 1 - _SURE, _SURE)
    logits = cv2.GaussianBlur(patch_logits(resize_long_side(image, SIZE_PX), network), (0, 0), SMOOTHING_PX)
    evidence = np.log(default / (1 - default)) + WEIGHT * resize_map(logits, *image.shape[:2])
    return np.asarray(1 / (1 + np.exp(-evidence)), dtype=np.float32)


def patch_logits(view: ImageArray, network: PatchNetwork) -> FloatMap:
    """Return a network's logits (height, width) of a uint8 RGB image (height, width, 3); larger means foreground.

    Beyond its edges the image goes on as its mirror image. The network is in evaluation mode, on the CPU.
    """
    height, width = view.shape[:2]
    before = FIELD_PX // 2 - STRIDE_PX // 2  # a cell's patch is centred on the block of pixels that it stands for
    after = FIELD_PX - 1 - before
    padded = cv2.copyMakeBorder(view, before, after, before, after, cv2.BORDER_REFLECT_101)
    with torch.inference_mode():
        cells = network(normalise_image(padded)[None])[0].numpy()
    rows, columns = (STRIDE_PX * count for count in cells.shape)
    return resize_map(cells, rows, columns)[:height, :width]


def patch_network_record(path: Path | None) -> dict[str, Any]:
    """Return what the masks' folder must say of a network: SHA-256 of its file, number of images and rounds behind it.

    No labels touched it, whichever images those were.

    Raises:
        InputError: no file, or one that is no patch network.
    """
    _, header = _open(path)
    return {"weights_sha256": file_sha256(path or Path()), **asdict(header)}


def _open(path: Path | None) -> tuple[PatchNetwork, PatchNetworkHeader]:
    if path is None:
        raise InputError(
            "saliency method learned_patches needs a network; train one with `densessl saliency --method "
            "learned_patches --images DIR --out MASKS`, which makes masks as well, or give network "
            "MASKS/patch_training/network.safetensors of an earlier one"
        )
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=1)
def _load(path: Path, changed_ns: int) -> tuple[PatchNetwork, PatchNetworkHeader]:
    return load_patch_network(path)
