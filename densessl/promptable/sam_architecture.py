"""Tells from names and shapes of a file's tensors which promptable model they belong to."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from densessl.errors import InputError
from densessl.promptable.promptable_settings import STRIDE, PromptableSettings
from densessl.promptable.tiny_vit import TinyVitShape
from densessl.promptable.vision_transformer import VIT_B, VIT_H, VIT_L, VisionTransformerShape

_VIT, _TINY_VIT = "image_encoder.patch_embed.proj.weight", "image_encoder.patch_embed.seq.0.c.weight"
_NAMED = {VIT_B: "sam_vit_b", VIT_L: "sam_vit_l", VIT_H: "sam_vit_h"}
_MOBILE_SAM_SIZE_PX = 1024  # its file does not say

Tensors = Mapping[str, torch.Tensor]


def recognise_architecture(tensors: Tensors, path: Path) -> PromptableSettings:
    """Return the settings of the model that the tensors, under SAM's own names, belong to.

    The heads of the two-way transformer leave no trace in the shapes, in SAM's files as in those of transformers, whose
    config.json is not read: they are taken for the published 8. A variant with another number loads without an error
    and gives wrong masks: build it with `decoder_heads` of its own and load its tensors into that.

    Raises:
        InputError: neither SAM nor MobileSAM, or one from which a tensor is missing that tells its measures.
    """
    encoder: PromptableSettings
    try:
        if _VIT in tensors:
            encoder = _vision_transformer(tensors)
        elif _TINY_VIT in tensors:
            encoder = PromptableSettings("mobile_sam", _MOBILE_SAM_SIZE_PX, tiny_vit=_tiny_vit(tensors))
        else:
            raise InputError(
                f"{path} is no promptable model: no tensor is named {_VIT} (SAM) or {_TINY_VIT} (MobileSAM), and it "
                "has no header of densessl; give a SAM or MobileSAM checkpoint, a SamModel of transformers or a file "
                "of `save_promptable_model` (an encoder alone goes in with --encoder NAME --encoder_weights FILE, in "
                "training with --backbone FILE, in Python with `load_backbone_weights`)"
            )
        return _with_decoder(encoder, tensors)
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} looks like SAM, but its measures cannot be told: {error} is missing or of an unusual shape; "
            "download or export the file again"
        ) from error


def _vision_transformer(tensors: Tensors) -> PromptableSettings:
    _, grid, _, dim = tensors["image_encoder.pos_embed"].shape
    depth = _count(tensors, r"image_encoder\.blocks\.(\d+)\.norm1\.weight")
    tables = [tensors[f"image_encoder.blocks.{index}.attn.rel_pos_h"] for index in range(depth)]
    sides = [(len(table) + 1) // 2 for table in tables]
    shape = VisionTransformerShape(
        dim,
        depth,
        num_heads=dim // tables[0].shape[1],
        global_blocks=tuple(index for index, side in enumerate(sides) if side == grid),
        mlp_dim=len(tensors["image_encoder.blocks.0.mlp.lin1.weight"]),
        window=next((side for side in sides if side != grid), VIT_B.window),
    )
    name = _NAMED.get(shape)
    return PromptableSettings(name or "vision_transformer", grid * STRIDE, vision_transformer=None if name else shape)


def _tiny_vit(tensors: Tensors) -> TinyVitShape:
    stages, depths, biases = range(4), [], []
    dims = [len(tensors["image_encoder.patch_embed.seq.2.c.weight"])]
    dims += [len(tensors[f"image_encoder.layers.{stage}.downsample.conv3.c.weight"]) for stage in stages[:-1]]
    for stage in stages:
        depths.append(_count(tensors, rf"image_encoder\.layers\.{stage}\.blocks\.(\d+)\..*"))
    for stage in stages[1:]:
        biases.append(tensors[f"image_encoder.layers.{stage}.blocks.0.attn.attention_biases"])
    published = TinyVitShape()
    heads = [published.num_heads[0], *(len(bias) for bias in biases)]  # the first stage has no attention
    windows = [published.windows[0], *(round(bias.shape[1] ** 0.5) for bias in biases)]
    return TinyVitShape(_four(dims), _four(depths), _four(heads), _four(windows))


def _with_decoder(encoder: PromptableSettings, tensors: Tensors) -> PromptableSettings:
    hidden = tensors["mask_decoder.iou_prediction_head.layers.0.weight"]
    return PromptableSettings(
        encoder.encoder,
        encoder.size_px,
        vision_transformer=encoder.vision_transformer,
        tiny_vit=encoder.tiny_vit,
        dim=tensors["prompt_encoder.no_mask_embed.weight"].shape[1],
        mask_channels=len(tensors["prompt_encoder.mask_downscaling.3.weight"]),
        num_multimask=len(tensors["mask_decoder.mask_tokens.weight"]) - 1,
        decoder_depth=_count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\.norm1\.weight"),
        decoder_mlp_dim=len(tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"]),
        iou_depth=_count(tensors, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\.weight"),
        iou_hidden_dim=len(hidden),
    )


def _count(tensors: Tensors, pattern: str) -> int:
    """Return one more than the largest number that the pattern finds in a name, 0 where it finds none."""
    found = (re.fullmatch(pattern, name) for name in tensors)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _four(values: list[int]) -> tuple[int, int, int, int]:
    first, second, third, fourth = values
    return first, second, third, fourth
