"""Saliency by a trained network, as an estimator like the others."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from densessl.data.normalisation import normalise_image
from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.models.precision import choose_precision
from densessl.models.saliency_network import SaliencyNetwork, SaliencyNetworkHeader, load_saliency_network
from densessl.saliency.colour import FloatMap, resize_map
from densessl.saliency.deep_estimator import resize_to_grid
from densessl.structures import ImageArray


def network_saliency(image: ImageArray, path: Path | None) -> FloatMap:
    """Return the foreground probability (height, width), in [0, 1], of a uint8 RGB image by the network of a file.

    Raises:
        InputError: no file, or one that is no saliency network.
    """
    network, header = _open(path)
    _, logits = view_with_logits(image, network, header)
    probability = torch.sigmoid(torch.from_numpy(logits)).numpy()
    return np.clip(resize_map(probability, *image.shape[:2]), 0, 1)


def view_with_logits(
    image: ImageArray, network: SaliencyNetwork, header: SaliencyNetworkHeader
) -> tuple[ImageArray, FloatMap]:
    """Return the `network_view` of a uint8 RGB image (height, width, 3), and the network's foreground logits there.

    The view is uint8 (view height, view width, 3), the logits float32 (view height, view width): the mean of those at
    all scales of the header, each resized to that view.
    """
    view = network_view(image, header)
    seen = [view if scale == 1 else network_view(image, header, scale) for scale in header.scales]
    logits = [resize_map(network_logits(each, network), *view.shape[:2]) for each in seen]
    return view, np.mean(logits, axis=0, dtype=np.float32)


def network_logits(view: ImageArray, network: SaliencyNetwork) -> FloatMap:
    """Return a network's foreground logits (height, width) of what `network_view` made of an image (height, width, 3).

    It is seen as it is and mirrored; the two logits are averaged. Computed in bf16 where the processor is fast
    at it, so that the last digits depend on the machine.
    """
    scaled = normalise_image(view).to(next(network.parameters()).device)
    is_fast = choose_precision("auto", scaled.device) == "bf16"
    with torch.inference_mode(), torch.autocast(scaled.device.type, torch.bfloat16, enabled=is_fast):
        both = network(torch.stack([scaled, scaled.flip(2)]).contiguous(memory_format=torch.channels_last))
        logits = (both[0].float() + both[1].float().flip(1)) / 2
    return logits.cpu().numpy()


def network_view(image: ImageArray, header: SaliencyNetworkHeader, scale: float = 1.0) -> ImageArray:
    """Return a uint8 RGB image (height, width, 3), shrunk or enlarged to the scale of a network's training views.

    A view's share of the result has the area of a view, in pixels, times the square of `scale`.
    """
    height, width = image.shape[:2]
    area = (header.size_px * scale) ** 2 / header.view_share
    long_side = round((area * max(height, width) / min(height, width)) ** 0.5)
    return resize_to_grid(image, long_side, stride=1)


def network_record(path: Path | None) -> dict[str, Any]:
    """Return what the masks' folder must say of a network: SHA-256 of its file, and which labels touched it."""
    _, header = _open(path)
    return {"weights_sha256": file_sha256(path or Path()), "supervision": header.supervision}


def _open(path: Path | None) -> tuple[SaliencyNetwork, SaliencyNetworkHeader]:
    if path is None:
        raise InputError(
            "saliency method self_trained needs a network; train one with `densessl saliency --method self_trained "
            "--images DIR --out MASKS`, which makes masks as well, or give network MASKS/self_training/"
            "network.safetensors of an earlier one"
        )
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=1)
def _load(path: Path, changed_ns: int) -> tuple[SaliencyNetwork, SaliencyNetworkHeader]:
    network, header = load_saliency_network(path)
    return network.to(memory_format=torch.channels_last), header  # type: ignore[call-overload]
