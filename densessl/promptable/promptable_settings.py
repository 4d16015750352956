"""What a promptable model is made of; the settings travel in its file."""

from dataclasses import dataclass, field
from typing import Any, Literal

from densessl.errors import InputError, check_at_least
from densessl.promptable.tiny_vit import TinyVitShape
from densessl.promptable.vision_transformer import VisionTransformerShape

STRIDE = 16
"""Pixels per cell of every image embedding."""


@dataclass(frozen=True)
class PromptableSettings:
    """What a promptable model is made of; the defaults are SAM's with ViT-B.

    Args:
        encoder: sam_vit_b, sam_vit_l, sam_vit_h, mobile_sam, vision_transformer (of other measures, given in
            vision_transformer), or the timm name of a backbone, such as mobilenetv2_100 or vit_small_patch16_224.
        size_px: length in pixels to which an image's longest side is brought.
        padding: square (images are padded to size_px x size_px, as published), or stride (only to multiples of 16, for
            timm backbones: less work for images that are not square, but no longer the same numbers, because prompts
            attend to the padding too).
        vision_transformer: measures of the encoder vision_transformer.
        tiny_vit: measures of the encoder mobile_sam.
        dim: channels of the image embedding and of prompts.
        fine_features: the decoder also sees the backbone's feature maps at strides 8 and 4, where it enlarges its masks
            (SAM 2, arXiv:2408.00714): sharper outlines, for convolutional timm backbones.
        neck_blocks: ConvNeXt blocks (arXiv:2201.03545) between a timm backbone and the decoder, through which cells of
            the embedding see each other; with fine_features the finer maps are then joined to the embedding by
            convolutions, from the top down (arXiv:1612.03144). 0, as published: a 3x3 convolution alone.
        mask_channels: of the convolutions that embed mask prompts.
        num_multimask: masks given for an ambiguous prompt, beside the single one.
        decoder_depth: layers of the two-way transformer.
        decoder_heads: heads of its attention.
        decoder_mlp_dim: hidden units of its perceptrons.
        iou_depth: layers of the head that predicts IoU.
        iou_hidden_dim: hidden units of that head.
    """

    encoder: str = "sam_vit_b"
    size_px: int = 1024
    padding: Literal["square", "stride"] = "square"
    vision_transformer: VisionTransformerShape | None = None
    tiny_vit: TinyVitShape = field(default_factory=TinyVitShape)
    dim: int = 256
    fine_features: bool = False
    neck_blocks: int = 0
    mask_channels: int = 16
    num_multimask: int = 3
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    iou_depth: int = 3
    iou_hidden_dim: int = 256

    def __post_init__(self) -> None:
        if self.size_px < STRIDE or self.size_px % STRIDE:
            raise InputError(f"model.size_px is {self.size_px}; it must be a multiple of {STRIDE}, such as 1024 or 512")
        if self.dim < 8 or self.dim % 8:
            raise InputError(f"model.dim is {self.dim}; it must be a multiple of 8 (published 256)")
        if self.mask_channels < 4 or self.mask_channels % 4:
            raise InputError(f"model.mask_channels is {self.mask_channels}; it must be a multiple of 4 (published 16)")
        names = ("num_multimask", "decoder_depth", "decoder_heads", "decoder_mlp_dim", "iou_depth", "iou_hidden_dim")
        check_at_least("model", self, dict.fromkeys(names, 1))
        if self.padding not in ("square", "stride"):
            raise InputError(f"model.padding {self.padding!r} is unknown; choose square or stride")
        if self.padding == "stride" and self.is_sam_encoder:
            raise InputError(
                f"model.padding stride does not go with encoder {self.encoder}, whose weights expect the padded "
                "square; choose padding square, or a timm backbone"
            )
        if self.fine_features and self.is_sam_encoder:
            raise InputError(
                f"model.fine_features does not go with encoder {self.encoder}, which has one feature map; leave it "
                "out, or choose a convolutional timm backbone"
            )
        check_at_least("model", self, {"neck_blocks": 0})
        if self.neck_blocks and self.is_sam_encoder:
            raise InputError(
                f"model.neck_blocks is {self.neck_blocks}, but encoder {self.encoder} has the neck of its published "
                "weights; leave it out, or choose a timm backbone"
            )
        if self.encoder != "mobile_sam" and self.tiny_vit != TinyVitShape():
            raise InputError(
                f"model.tiny_vit is {self.tiny_vit}, but model.encoder is {self.encoder}, which has other measures; "
                "leave it out, or choose mobile_sam"
            )
        if (self.encoder == "vision_transformer") != (self.vision_transformer is not None):
            raise InputError(
                f"model.encoder is {self.encoder} and model.vision_transformer is {self.vision_transformer}; the "
                "encoder vision_transformer needs its measures, and no other takes them"
            )

    @property
    def is_sam_encoder(self) -> bool:
        """Whether the encoder is one of SAM's or MobileSAM's, and not a timm backbone."""
        return self.encoder in ("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam", "vision_transformer")


def settings_from_plain(values: dict[str, Any]) -> PromptableSettings:
    """Rebuild settings from what JSON holds of them; raises KeyError, TypeError or ValueError where that is no such."""
    shape = values["vision_transformer"]
    tiny = {name: tuple(measure) for name, measure in values["tiny_vit"].items()}
    rebuilt = {
        **values,
        "tiny_vit": TinyVitShape(**tiny),
        "vision_transformer": shape
        and VisionTransformerShape(**{**shape, "global_blocks": tuple(shape["global_blocks"])}),
    }
    return PromptableSettings(**rebuilt)
