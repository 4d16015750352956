"""SAM of the package segment-anything with random weights, moved so that its masks are patches that follow the click.

No published weights are at hand here. Speed and memory do not depend on the values of weights but through the number of
masks that pass the filters, which the benchmark fixes by its thresholds.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import (  # type: ignore[import-untyped]
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

SHAPES: dict[str, dict[str, Any]] = {
    "vit_b": {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11)},
    "small": {"embed_dim": 192, "depth": 6, "num_heads": 3, "global_attn_indexes": (2, 5)},
    "tiny": {"embed_dim": 64, "depth": 2, "num_heads": 2, "global_attn_indexes": (1,)},
}
"""ViT-B, and two smaller ones in its manner."""


def random_sam(encoder: str, size_px: int) -> Sam:
    """Build the model with seeded random weights."""
    torch.manual_seed(0)
    grid = size_px // 16
    sam = Sam(
        ImageEncoderViT(
            img_size=size_px,
            mlp_ratio=4,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            window_size=14,
            out_chans=256,
            **SHAPES[encoder],
        ),
        PromptEncoder(256, (grid, grid), (size_px, size_px), mask_in_chans=16),
        MaskDecoder(
            transformer_dim=256,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        ),
    )
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        _follow_the_click(sam)
    return sam.eval()


def save_random_sam(encoder: str, size_px: int, path: Path) -> Path:
    """Write its weights as published ones are."""
    torch.save(random_sam(encoder, size_px).state_dict(), path)
    return path


def load_random_sam(encoder: str, size_px: int, path: Path) -> Sam:
    """Build the model and fill it from a file."""
    sam = random_sam(encoder, size_px)
    sam.load_state_dict(torch.load(path, weights_only=True))
    return sam


def _follow_the_click(sam: Sam) -> None:
    """Weaken what is the same for all clicks, the texture of the image above all, and make masks smaller."""
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    for name, parameter in decoder.transformer.named_parameters():
        if name.endswith("proj.weight"):
            parameter.mul_(2)
    for perceptron in decoder.output_hypernetworks_mlps:
        for layer in perceptron.layers:
            layer.weight.mul_(2)
        perceptron.layers[-1].bias.sub_(3)
    decoder.iou_prediction_head.layers[-1].weight.mul_(2)
    decoder.iou_prediction_head.layers[-1].bias.add_(2)  # a threshold of 0 or less would let all masks pass
    sam.image_encoder.neck[3].weight.mul_(0.05)
    sam.image_encoder.neck[3].bias.mul_(0.05)
    learned = (*prompts.point_embeddings, prompts.not_a_point_embed, prompts.no_mask_embed)
    for embedding in (*learned, decoder.iou_token, decoder.mask_tokens):
        embedding.weight.mul_(0.1)
