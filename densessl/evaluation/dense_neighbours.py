"""Dense nearest neighbours: labels of patches of new images from the most similar patches of a memory."""

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.evaluation.labelled_features import check_finite
from densessl.evaluation.labelled_protocols import HummingbirdSettings
from densessl.evaluation.linear_probe import highest_class
from densessl.evaluation.patch_memory import PatchMemory, unit_rows
from densessl.structures import LabelMap

_QUERIES_AT_ONCE = 1024


def transfer_labels(
    memory: PatchMemory,
    features: NDArray[np.float32],
    settings: HummingbirdSettings,
    stem: str = "?",
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Return the class probabilities of every patch of an image, float32 (num_classes, h, w).

    `y(q) = sum_{j in N(q)} a_j y_j`, `a_j = exp(cos(q, k_j) / tau) / sum_{m in N(q)} exp(cos(q, k_m) / tau)`: attention
    over the num_neighbours patches N(q) of the memory that are most similar by cosine (Balazevic et al., NeurIPS 2023,
    arXiv:2306.01667; as in open-hummingbird-eval). The search is exact, by matrix products over parts of
    the memory.

    Args:
        memory: patches k_j and their histograms y_j.
        features: (dim, h, w) of one image; a patch without length is equally far from all others.
        settings: num_neighbours, temperature tau, rows_at_once.
        stem: of the image, for errors.
        device: where to compute; None for the CPU.

    Raises:
        InputError: a memory of fewer patches than neighbours, features that are not finite or of another dimension.
    """
    dim, height, width = features.shape
    _check(memory, dim, settings, stem)
    check_finite(features, stem)
    device = device or torch.device("cpu")
    keys, shares = (torch.from_numpy(values) for values in (memory.features, memory.shares))
    queries = torch.from_numpy(unit_rows(features.reshape(dim, -1).T))  # (height * width, dim)
    parts = []
    for part in queries.split(_QUERIES_AT_ONCE):
        cosines, rows = nearest_rows(keys, part.to(device), settings.num_neighbours, settings.rows_at_once)
        attention = torch.softmax(cosines / settings.temperature, dim=1)  # (num_queries, num_neighbours)
        parts.append((attention.cpu()[:, :, None] * shares[rows.cpu()]).sum(dim=1))
    return torch.cat(parts).T.reshape(-1, height, width).numpy()


def predict_with_memory(
    memory: PatchMemory,
    features: NDArray[np.float32],
    size: tuple[int, int],
    settings: HummingbirdSettings,
    stem: str = "?",
    device: torch.device | None = None,
) -> LabelMap:
    """Return the class of every pixel at `size`: probabilities of `transfer_labels` upsampled bilinearly, the highest.

    A class without patches in memory is never predicted.
    """
    return highest_class(transfer_labels(memory, features, settings, stem, device), memory.classes, size)


def nearest_rows(
    keys: torch.Tensor, queries: torch.Tensor, num_neighbours: int, rows_at_once: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest products of each query with the keys, and the rows of these keys, largest first.

    Holds `num_queries * (rows_at_once + num_neighbours)` products at a time; keys may lie on another device than the
    queries, whose device computes. Of equal products any may be returned.

    Args:
        keys: float (num_keys, dim), at least `num_neighbours`. queries: float (num_queries, dim).

    Returns:
        float and int64 (num_queries, num_neighbours).
    """
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for first in range(0, len(keys), rows_at_once):
        products = queries @ keys[first : first + rows_at_once].to(queries.device).T
        found, places = products.topk(min(num_neighbours, products.shape[1]), dim=1)
        candidates = torch.cat([best, found], dim=1)
        best, chosen = candidates.topk(min(num_neighbours, candidates.shape[1]), dim=1)
        rows = torch.cat([rows, places + first], dim=1).gather(1, chosen)
    return best, rows


def _check(memory: PatchMemory, dim: int, settings: HummingbirdSettings, stem: str) -> None:
    num_patches = len(memory.features)
    if num_patches < settings.num_neighbours:
        raise InputError(
            f"the memory holds {num_patches} patches, fewer than the {settings.num_neighbours} neighbours that were "
            "asked for; lower hummingbird.num_neighbours, raise hummingbird.memory_size or add training images"
        )
    if dim != memory.features.shape[1]:
        raise InputError(
            f"features of image {stem!r} have {dim} dimensions, those in memory {memory.features.shape[1]}; use one "
            "encoder for both"
        )
