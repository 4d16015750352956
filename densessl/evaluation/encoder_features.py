"""Any dense encoder as a feature function: its outputs checked, its precision chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from densessl.errors import InputError
from densessl.evaluation.extraction import FeatureFunction
from densessl.evaluation.prototypes import DenseFeatures

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class FeatureEncoder:
    """An encoder that evaluation can use, and what is to be said of it.

    encode: maps images (batch, 3, height, width), normalised by ImageNet's mean and standard deviation, to features.
    description: what it is, in one line; with everything that changes its features.
    fingerprint: SHA-256 of its weights or source; None where there is nothing to take it of.
    supervision: which labels touched its weights, in words.
    precision: of its computation.
    device: where it is. has_saliency: it has a saliency head.
    project: what embeds features after pooling, as in `DenseFeatures`.
    """

    encode: FeatureFunction
    description: str
    fingerprint: str | None
    supervision: str
    precision: Literal["fp32", "bf16"] = "fp32"
    device: torch.device = _CPU
    has_saliency: bool = False
    project: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True)
class CheckedFeatures:
    """Calls a function from images to feature maps, and refuses what is no feature map.

    name: of the encoder, in errors.
    """

    function: Callable[[torch.Tensor], Any]
    name: str

    def __call__(self, images: torch.Tensor) -> DenseFeatures:
        """Return the features (batch, dim, h, w) of images, in float32.

        Raises:
            InputError: no tensor of floats, or another shape.
        """
        features = self.function(images)
        wanted = f"an encoder maps images {tuple(images.shape)} to one float tensor ({len(images)}, dim, h, w)"
        if not isinstance(features, torch.Tensor):
            raise InputError(
                f"encoder {self.name} returns a {type(features).__name__}; {wanted}, so return the map alone"
            )
        if features.ndim != 4 or 0 in features.shape or not features.is_floating_point():
            raise InputError(
                f"encoder {self.name} returns shape {tuple(features.shape)} of {features.dtype}; {wanted}: tokens of a "
                "transformer are brought to their grid first, without class token"
            )
        if len(features) != len(images):
            raise InputError(f"encoder {self.name} returns {len(features)} maps for {len(images)} images; {wanted}")
        return DenseFeatures(features.float())


@dataclass(frozen=True)
class AutocastFeatures:
    """Calls a feature function under autocast to bfloat16; what it returns is float32 again."""

    function: FeatureFunction
    device: torch.device

    def __call__(self, images: torch.Tensor) -> DenseFeatures:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            dense = self.function(images)
        saliency = None if dense.saliency is None else dense.saliency.float()
        return DenseFeatures(dense.features.float(), saliency, dense.project)
