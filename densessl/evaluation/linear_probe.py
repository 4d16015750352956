"""A linear probe: one logit per class from a dense feature, by a 1x1 convolution, and the label maps it predicts."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes, check_finite
from densessl.structures import LabelMap


@dataclass(frozen=True)
class LinearProbe:
    """`logits = weight @ feature + bias`.

    weight: float32 (num_classes, dim). bias: float32 (num_classes,). classes: the class of each row; a class without
    training pixels has no row and is never predicted.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    classes: Classes


def probe_logits(probe: LinearProbe, features: NDArray[np.float32], stem: str) -> NDArray[np.float32]:
    """Return the logits of features (dim, h, w): float32 (num_classes, h, w).

    Raises `InputError`, naming the image, for features that are not finite or of another dimension than the probe.
    """
    dim, *grid = features.shape
    if dim != probe.weight.shape[1]:
        raise InputError(
            f"features of image {stem!r} have {dim} dimensions, the probe {probe.weight.shape[1]}; use the features "
            "that it was fitted to"
        )
    check_finite(features, stem)
    logits = probe.weight @ features.reshape(dim, -1) + probe.bias[:, None]
    return logits.reshape(-1, *grid).astype(np.float32, copy=False)


def predict_with_probe(
    probe: LinearProbe, features: NDArray[np.float32], size: tuple[int, int], stem: str = "?"
) -> LabelMap:
    """Return the class of every pixel at `size` (height, width): logits upsampled bilinearly, then the highest."""
    return highest_class(probe_logits(probe, features, stem), probe.classes, size)


def highest_class(values: NDArray[np.float32], classes: Classes, size: tuple[int, int]) -> LabelMap:
    """Return the class whose value is highest at `size` (height, width), after bilinear upsampling; int64.

    Args:
        values: (num_classes, h, w), one map for each of `classes`; of equals the earlier class wins.
    """
    maps = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
    upsampled = functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
    return np.array(classes.labels, dtype=np.int64)[upsampled.argmax(dim=0).numpy()]
