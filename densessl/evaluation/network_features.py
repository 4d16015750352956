"""A network as a dense feature function."""

from dataclasses import dataclass
from typing import Literal

import torch

from densessl.evaluation.prototypes import DenseFeatures
from densessl.models.encoders import whole_patches
from densessl.models.mask_contrast_model import MaskContrastModel

FeatureMap = Literal["embedding", "decoder", "encoder"]


@dataclass(frozen=True)
class NetworkFeatures:
    """Calls a network in fp32, in evaluation mode, and returns one of its feature maps.

    Where the network embeds masks, its embedding head works after pooling. The saliency logits come upsampled
    (bilinear) to the image's size. A transformer sees `whole_patches` of the image, so that the map covers it exactly.
    """

    model: MaskContrastModel
    feature_map: FeatureMap

    def __call__(self, images: torch.Tensor) -> DenseFeatures:
        output = self.model.eval()(whole_patches(images, self.model.encoder))
        logits = torch.nn.functional.interpolate(
            output.saliency.float(), size=images.shape[-2:], mode="bilinear", align_corners=False
        )
        if self.feature_map == "embedding" and self.model.embedding_of == "masks":
            return DenseFeatures(output.decoder.float(), logits.squeeze(1), self.model.embed)
        return DenseFeatures(getattr(output, self.feature_map).float(), logits.squeeze(1))


@dataclass(frozen=True)
class PooledEmbedding:
    """The embedding head of a network that embeds masks, for features that lie on any device (`FeatureStore`)."""

    model: MaskContrastModel

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Embed decoder features (num, dim) or (batch, dim, h, w); the result is where they are."""
        device = next(self.model.parameters()).device
        return self.model.embed(features.to(device)).float().to(features.device)
