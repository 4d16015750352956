"""The one place that turns names of estimators and refinements into functions."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from densessl.errors import InputError
from densessl.saliency import baselines
from densessl.saliency.attention_settings import DEFAULT_ATTENTION, AttentionSettings
from densessl.saliency.bilateral_solver import refine_by_bilateral_solver
from densessl.saliency.colour import FloatMap
from densessl.saliency.colour_models import refine_by_colour_models
from densessl.saliency.dense_crf import refine_by_dense_crf
from densessl.saliency.feature_settings import FeatureSettings
from densessl.saliency.fused import fused
from densessl.saliency.guided_filter import refine_by_guided_filter
from densessl.structures import ImageArray

Method = Literal[
    "fused",
    "robust_background",
    "barrier_distance",
    "mb_plus",
    "frequency_tuned",
    "spectral_residual",
    "centre",
    "tokencut",
    "deep_spectral",
    "lost",
    "found_seeds",
    "attention",
    "learned_patches",
    "self_trained",
    "file",
]
NETWORK_METHODS: tuple[Method, ...] = ("learned_patches", "self_trained")
"""The methods that look through a network trained on images, whose file is the setting `network`."""
Refinement = Literal["colour_models", "guided_filter", "bilateral_solver", "dense_crf", "none"]

Estimator = Callable[[ImageArray], FloatMap]
"""Takes a uint8 RGB image (height, width, 3), returns a soft foreground map (height, width) in [0, 1]."""

Refiner = Callable[[ImageArray, FloatMap], FloatMap]
"""Takes an image and its soft map, returns a better soft map of the same size."""


def method_of(name: str) -> Method:
    """Return the name as a method; raises `InputError` where there is none of that name."""
    for method in get_args(Method):
        if name == method:
            return method  # type: ignore[no-any-return]
    raise InputError(f"unknown saliency method {name!r}; choose one of {', '.join(get_args(Method))}")


def find_estimator(
    method: str,
    features: FeatureSettings,
    network: Path | None = None,
    attention: AttentionSettings = DEFAULT_ATTENTION,
) -> Estimator:
    """Return the estimator of that name; raises `InputError` for an unknown one, and for `file`, which has none.

    `features` says which encoder the methods on deep features use, `network` is the file of the network of one of
    `NETWORK_METHODS`, `attention` which head's attention is taken. They are loaded when the first image comes.
    """
    match method:
        case "fused":
            return fused
        case "robust_background":
            return baselines.robust_background
        case "barrier_distance":
            return baselines.barrier_distance
        case "mb_plus":
            return baselines.mb_plus
        case "frequency_tuned":
            return baselines.frequency_tuned
        case "spectral_residual":
            return baselines.spectral_residual
        case "centre":
            return baselines.centre
        case "tokencut" | "deep_spectral" | "lost" | "found_seeds":
            return functools.partial(_deep_saliency, method=method, features=features)
        case "attention":
            return functools.partial(_attention_saliency, features=features, chosen=attention)
        case "learned_patches":
            return functools.partial(_learned_patches, path=network)
        case "self_trained":
            return functools.partial(_network_saliency, path=network)
        case "file":
            raise InputError("saliency method file estimates nothing; it takes the map of each image from a folder")
        case _:
            raise InputError(f"unknown saliency method {method!r}; choose one of {', '.join(get_args(Method))}")


def find_refiner(refine: str) -> Refiner:
    """Return the refinement of that name; raises `InputError` for an unknown one."""
    match refine:
        case "colour_models":
            return refine_by_colour_models
        case "guided_filter":
            return refine_by_guided_filter
        case "bilateral_solver":
            return refine_by_bilateral_solver
        case "dense_crf":
            return refine_by_dense_crf
        case "none":
            return _unchanged
        case _:
            raise InputError(f"unknown refinement {refine!r}; choose one of {', '.join(get_args(Refinement))}")


def _deep_saliency(image: ImageArray, *, method: str, features: FeatureSettings) -> FloatMap:
    from densessl.saliency.deep_estimator import deep_saliency  # timm, which the other methods need not wait for

    return deep_saliency(image, method, features)


def _attention_saliency(image: ImageArray, *, features: FeatureSettings, chosen: AttentionSettings) -> FloatMap:
    from densessl.saliency.attention_saliency import attention_saliency  # timm again

    return attention_saliency(image, features, chosen)


def _learned_patches(image: ImageArray, *, path: Path | None) -> FloatMap:
    from densessl.saliency.learned_patches import learned_patches  # files of networks, which others do without

    return learned_patches(image, path)


def _network_saliency(image: ImageArray, *, path: Path | None) -> FloatMap:
    from densessl.saliency.network_saliency import network_saliency  # timm again

    return network_saliency(image, path)


def _unchanged(image: ImageArray, soft: FloatMap) -> FloatMap:
    return soft
