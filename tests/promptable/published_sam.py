"""SAM of the package segment-anything, small or ViT-B, with random weights that leave no parameter at zero."""

from functools import partial
from pathlib import Path

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

SMALL_SIZE_PX = 256


def small_sam(seed: int = 0) -> Sam:
    """Depth 4, width 64, windows of 7, images of 256 px: an image is 16 x 16 tokens, so windows are padded."""
    return published_sam(depth=4, dim=64, num_heads=4, global_blocks=(1, 3), window=7, size_px=SMALL_SIZE_PX, seed=seed)


def local_sam(seed: int = 0) -> Sam:
    """The small one, its masks local."""
    return with_local_masks(small_sam(seed))


def with_local_masks(sam: Sam) -> Sam:
    """Move the weights so that masks are patches that change with the click, as trained ones are.

    With merely random weights the texture of the image decides, and each mask is spread over the whole image.
    """
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    with torch.no_grad():
        for name, parameter in decoder.transformer.named_parameters():
            if name.endswith("proj.weight"):
                parameter.mul_(2)
        for perceptron in decoder.output_hypernetworks_mlps:
            for layer in perceptron.layers:  # type: ignore[union-attr]
                layer.weight.mul_(2)  # type: ignore[operator, union-attr]
            perceptron.layers[-1].bias.sub_(3)  # type: ignore[index, operator, union-attr]
        decoder.iou_prediction_head.layers[-1].weight.mul_(2)  # type: ignore[operator]
        sam.image_encoder.neck[3].weight.mul_(0.05)
        sam.image_encoder.neck[3].bias.mul_(0.05)
        learned = (*prompts.point_embeddings, prompts.not_a_point_embed, prompts.no_mask_embed)
        for embedding in (*learned, decoder.iou_token, decoder.mask_tokens):
            embedding.weight.mul_(0.1)  # type: ignore[operator, union-attr]
    return sam


def vit_b_sam() -> Sam:
    return published_sam(depth=12, dim=768, num_heads=12, global_blocks=(2, 5, 8, 11), window=14, size_px=1024, seed=0)


def published_sam(
    *, depth: int, dim: int, num_heads: int, global_blocks: tuple[int, ...], window: int, size_px: int, seed: int
) -> Sam:
    torch.manual_seed(seed)
    grid = size_px // 16
    sam = Sam(
        ImageEncoderViT(
            depth=depth,
            embed_dim=dim,
            img_size=size_px,
            mlp_ratio=4,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=num_heads,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=global_blocks,
            window_size=window,
            out_chans=256,
        ),
        PromptEncoder(256, (grid, grid), (size_px, size_px), mask_in_chans=16),
        MaskDecoder(
            transformer_dim=256,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        ),
    )
    randomise(sam)
    return sam.eval()


def randomise(network: nn.Module) -> None:
    """Move every parameter and every statistic of batch norm away from its initial value, by a little."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]


def saved(network: nn.Module, path: Path) -> Path:
    """Save a state dict as published weights are."""
    torch.save(network.state_dict(), path)
    return path
