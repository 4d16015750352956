"""The network of DINO: a vision transformer whose [CLS] token goes through a projection head."""

import timm
import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.encoders import check_encoder_name
from densessl.models.projection_head import ProjectionHead, ProjectionHeadSettings
from densessl.models.vision_transformer import VisionTransformer

ENCODER_PREFIX = "encoder.backbone."
"""What the names of the backbone's tensors begin with in a file of weights, as in files of other runs."""


class SelfDistillationNetwork(nn.Module):
    """A vision transformer and a projection head on its [CLS] token (Caron et al. 2021, arXiv:2104.14294, figure 2)."""

    def __init__(self, encoder: VisionTransformer, head: ProjectionHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, *crops: torch.Tensor) -> torch.Tensor:
        """Map crops, each group (num, 3, size, size) of one size, to scores (total num, num_outputs), in order.

        Each size goes through the encoder by itself, all together through the head.
        """
        return self.head(torch.cat([self.encoder(images)[:, 0] for images in crops if len(images)]))

    def encoder_tensors(self) -> dict[str, torch.Tensor]:
        """Return the state of the backbone, by the names under which other commands look for it."""
        return {f"{ENCODER_PREFIX}{name}": value for name, value in self.encoder.backbone.state_dict().items()}


def build_self_distillation_network(
    encoder: str,
    head: ProjectionHeadSettings,
    *,
    size_px: int,
    drop_path: float = 0.0,
    pretrained: bool = False,
) -> SelfDistillationNetwork:
    """Build a network with random weights, or with timm's published ones in its encoder (a download).

    Args:
        encoder: timm name of a vision transformer with a [CLS] token.
        head: settings of the projection head.
        size_px: height and width of the crops for whose grid of patches position embeddings are kept; crops of other
            sizes have them interpolated.
        drop_path: rate at which the last block's branches are left out in training, for each image; earlier blocks
            have linearly lower ones (stochastic depth, arXiv:1603.09382).
        pretrained: let timm download its published weights for that name.

    Raises:
        InputError: an unknown name, or a network that is no vision transformer with a [CLS] token.
    """
    check_encoder_name(encoder)
    try:
        backbone = timm.create_model(
            encoder, pretrained=pretrained, num_classes=0, img_size=size_px, drop_path_rate=drop_path
        )
        transformer = VisionTransformer(backbone, encoder)
    except TypeError as error:  # of timm: a network that takes images of any size has no img_size
        raise InputError(_no_transformer(encoder, str(error))) from error
    except InputError as error:
        raise InputError(_no_transformer(encoder, str(error))) from error
    except (OSError, RuntimeError) as error:  # no network, or timm has no weights for that name
        if not pretrained:
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"timm's weights for {encoder} cannot be had ({reason}); give a file with its weights as model.weights"
        ) from error
    return SelfDistillationNetwork(transformer, ProjectionHead(transformer.dim, head))


def _no_transformer(encoder: str, reason: str) -> str:
    return (
        f"model.encoder is {encoder}, but objective.method dino trains the [CLS] token of a vision transformer; choose "
        f"one, such as vit_small_patch16_224 ({reason.partition(';')[0]})"
    )
