"""Which encoder the methods on deep features look through, and at what size."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from densessl.errors import InputError

DeepMethod = Literal["tokencut", "deep_spectral", "lost", "found_seeds"]
DEEP_METHODS: tuple[str, ...] = get_args(DeepMethod)
"""The methods that work on features of a pretrained encoder."""
ENCODER_METHODS: tuple[str, ...] = (*DEEP_METHODS, "attention")
"""Those, and the one that takes its attention."""

MIN_SIZE_PX = 128
"""Smallest long side: four cells of the coarsest stride."""


@dataclass(frozen=True)
class FeatureSettings:
    """The encoder of the methods on deep features.

    Args:
        encoder: timm name; the methods were published with DINO's ViT-S/16, vit_small_patch16_224.dino.
        weights: file with its weights, in any format that `densessl.models.weights` knows.
        pretrained: let timm download its published weights for that name instead.
        output_stride: image pixels per cell for convolutional networks.
        size_px: long side that images are brought to before the encoder sees them.
    """

    encoder: str
    weights: Path | None
    pretrained: bool
    output_stride: int
    size_px: int


def check_features(method: str, features: FeatureSettings) -> None:
    """Raise `InputError` where a method's features have no weights, or a method without features is given some."""
    is_deep = method in ENCODER_METHODS
    if is_deep and features.weights is None and not features.pretrained:
        raise InputError(
            f"saliency method {method} works on features of encoder {features.encoder}, which has random weights; "
            "give a file with its weights (weights) or let timm download its own (pretrained true)"
        )
    if features.weights is not None and features.pretrained:
        raise InputError(
            f"saliency is given both weights {features.weights} and pretrained true; choose one of the two"
        )
    if not is_deep and method != "self_trained" and (features.weights is not None or features.pretrained):
        given = "pretrained true" if features.weights is None else f"weights {features.weights}"
        raise InputError(
            f"saliency method {method} uses no encoder, but {given} is given; leave it out, or choose one of "
            f"{', '.join(ENCODER_METHODS)}"
        )
    if features.output_stride not in {8, 16, 32}:
        raise InputError(f"saliency output_stride {features.output_stride} is not one of 8, 16, 32; 16 is usual")
    if features.size_px < MIN_SIZE_PX:
        raise InputError(
            f"saliency feature_size_px {features.size_px} is below {MIN_SIZE_PX}, which leaves too few patches; "
            "480 is usual"
        )
