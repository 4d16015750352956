"""The tensor names of transformers' SamModel, and what they are called in SAM's own files."""

import re
from collections.abc import Mapping

import torch

_MARK = "vision_encoder.patch_embed.projection.weight"

_RENAMED = (  # pattern, replacement; all are tried in this order
    (r"^vision_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
    (r"^vision_encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"image_encoder.blocks.\1.norm\2."),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"^shared_image_embedding\.positional_embedding$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.layer_norm(\d)\.", r"mask_decoder.transformer.layers.\1.norm\2."),
    (r"^mask_decoder\.transformer\.layer_norm_final_attn\.", "mask_decoder.transformer.norm_final_attn."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
)
_PERCEPTRON = re.compile(
    r"^(?P<head>mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+))\."
    r"(?P<layer>proj_in|layers\.\d+|proj_out)\.(?P<kind>weight|bias)$"
)
_TWIN = "prompt_encoder.shared_embedding.positional_embedding"  # the same tensor as that of the image embedding


def is_transformers_sam(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Say whether these are the tensors of a SamModel of transformers."""
    return _MARK in tensors


def published_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the tensors of a SamModel the names of SAM's own files; unknown names stay as they are."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if name != _TWIN:
            renamed[_published_name(name, tensors)] = value
    return renamed


def _published_name(name: str, tensors: Mapping[str, torch.Tensor]) -> str:
    part = _PERCEPTRON.match(name)
    if part is not None:
        return f"{part['head']}.layers.{_layer_number(part, tensors)}.{part['kind']}"
    for pattern, replacement in _RENAMED:
        new, is_replaced = re.subn(pattern, replacement, name)
        if is_replaced:
            return new
    return name


def _layer_number(part: re.Match[str], tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the place of a perceptron's layer: the first and last have names, those between them numbers."""
    if part["layer"] == "proj_in":
        return 0
    if part["layer"].startswith("layers."):
        return 1 + int(part["layer"].removeprefix("layers."))
    between = re.compile(re.escape(part["head"]) + r"\.layers\.\d+\.weight")
    return 1 + sum(between.fullmatch(name) is not None for name in tensors)
