"""The promptable model: image encoder, prompt encoder and mask decoder, put together."""

from typing import NamedTuple

import torch
from torch import nn

from densessl.errors import InputError
from densessl.promptable.backbone_encoder import build_backbone_encoder
from densessl.promptable.mask_decoder import DecodedMasks, MaskDecoder, MaskOutputs
from densessl.promptable.prompt_encoder import PromptEncoder
from densessl.promptable.promptable_settings import STRIDE, PromptableSettings
from densessl.promptable.tiny_vit import TinyVit
from densessl.promptable.two_way_transformer import TwoWayTransformer
from densessl.promptable.vision_transformer import VIT_B, VIT_H, VIT_L, VisionTransformer


class PromptBatch(NamedTuple):
    """Prompts as tensors, in pixels of the model's frame; a named tuple because exporters rebuild their inputs.

    points: float (num_prompts, n, 2), `(x, y)`; n may be 0.
    labels: int (num_prompts, n): 1 foreground, 0 background, 2 and 3 corners of a box, -1 filling
        (`densessl.promptable.prompt_encoder.point_prompts` makes both from clicks and boxes).
    masks: float (num_prompts, 1, 4 h, 4 w), logits on four times the grid of the image embedding, where there are any.
    has_mask: bool (num_prompts,), which of `masks` count; all, where it is None.
    image: int64 (num_prompts,), the image in the batch that each prompt is for. Where it is None, all prompts are for
        one image, or the i-th prompt is for the i-th image.
    """

    points: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None
    has_mask: torch.Tensor | None = None
    image: torch.Tensor | None = None


class PromptableModel(nn.Module):
    """Masks from an image and prompts. The parts bear the names of SAM's published weights.

    Gradients flow to all parts, and to images, points and mask prompts.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        settings: PromptableSettings,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.settings = settings

    def forward(self, images: torch.Tensor, prompts: PromptBatch, outputs: MaskOutputs = "all") -> DecodedMasks:
        """Encode images, normalised and framed (`densessl.promptable.framing`), and decode prompts for them.

        images: float (batch, 3, height, width), sides multiples of 16.
        """
        return self.decode(self.encode(images), prompts, outputs)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (batch, dim, height / 16, width / 16) of framed images (batch, 3, height, width).

        With fine features they have 4 dim channels.
        """
        return self.image_encoder(images)

    def decode(
        self,
        embeddings: torch.Tensor,
        prompts: PromptBatch,
        outputs: MaskOutputs = "all",
        positions: torch.Tensor | None = None,
    ) -> DecodedMasks:
        """Return the masks of a batch of prompts for encoded images.

        Args:
            embeddings: (batch, channels, h, w), of `encode`. One image is not repeated for its prompts.
            prompts: see `PromptBatch`.
            outputs: single, multiple (the three), or all (the single one first).
            positions: (1, dim, h, w), `image_positions(h, w)` where the caller keeps it.
        """
        height, width = embeddings.shape[-2:]
        if prompts.image is not None:
            embeddings = embeddings[prompts.image]
        return self.mask_decoder(
            embeddings,
            self.image_positions(height, width) if positions is None else positions,
            self.prompt_encoder.embed_points(prompts.points, prompts.labels),
            self._dense(prompts),
            outputs,
        )

    def image_positions(self, height: int, width: int) -> torch.Tensor:
        """Return the position codes (1, dim, height, width) of the cells of an embedding; they depend on weights."""
        return self.prompt_encoder.image_positions(height, width)

    def _dense(self, prompts: PromptBatch) -> torch.Tensor:
        no_mask = self.prompt_encoder.embed_no_mask()
        if prompts.masks is None:
            return no_mask
        embedded = self.prompt_encoder.embed_masks(prompts.masks)
        if prompts.has_mask is None:
            return embedded
        return torch.where(prompts.has_mask[:, None, None, None], embedded, no_mask)


def build_promptable_model(settings: PromptableSettings, *, pretrained: bool = False) -> PromptableModel:
    """Assemble the model of these settings, with random weights.

    Args:
        settings: see `PromptableSettings`.
        pretrained: let timm download its published weights of a backbone.

    Raises:
        InputError: an unknown encoder, or `pretrained` for one that is not timm's.
    """
    if pretrained and settings.is_sam_encoder:
        raise InputError(
            f"pretrained is true, but timm has no weights for encoder {settings.encoder}; give a file of the whole "
            "model (--weights FILE), or name a timm backbone"
        )
    transformer = TwoWayTransformer(
        settings.dim, settings.decoder_depth, settings.decoder_heads, settings.decoder_mlp_dim
    )
    return PromptableModel(
        _image_encoder(settings, pretrained=pretrained),
        PromptEncoder(settings.dim, settings.size_px, settings.mask_channels, STRIDE),
        MaskDecoder(
            settings.dim,
            transformer,
            settings.num_multimask,
            settings.iou_depth,
            settings.iou_hidden_dim,
            has_fine_features=settings.fine_features,
        ),
        settings,
    )


def _image_encoder(settings: PromptableSettings, *, pretrained: bool) -> nn.Module:
    match settings.encoder:
        case "sam_vit_b":
            return VisionTransformer(VIT_B, settings.size_px, settings.dim)
        case "sam_vit_l":
            return VisionTransformer(VIT_L, settings.size_px, settings.dim)
        case "sam_vit_h":
            return VisionTransformer(VIT_H, settings.size_px, settings.dim)
        case "vision_transformer" if settings.vision_transformer is not None:
            return VisionTransformer(settings.vision_transformer, settings.size_px, settings.dim)
        case "mobile_sam":
            return TinyVit(settings.tiny_vit, settings.dim)
        case name:
            return build_backbone_encoder(
                name,
                settings.dim,
                pretrained=pretrained,
                has_fine_features=settings.fine_features,
                neck_blocks=settings.neck_blocks,
            )
