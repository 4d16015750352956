"""MobileSAM of the package mobilesam-mirror, small or at its published measures, with random weights."""

from unittest.mock import patch

import torch
from published_sam import randomise

with patch("timm.models.registry.register_model", lambda build: build):  # else it takes the place of timm's TinyViT
    from mobile_sam import SamPredictor, build_sam_vit_t
    from mobile_sam.modeling import Sam, TinyViT

__all__ = ["Sam", "SamPredictor", "mobile_sam", "small_mobile_sam"]


def mobile_sam() -> Sam:
    torch.manual_seed(0)
    return randomised(build_sam_vit_t())


def small_mobile_sam() -> Sam:
    """The published one with a small encoder.

    The package fixes the image's size, and that the step to the last stage keeps the grid where it has 320 channels.
    """
    torch.manual_seed(0)
    sam = build_sam_vit_t()
    sam.image_encoder = TinyViT(
        img_size=1024, embed_dims=[8, 16, 24, 320], depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 10], drop_path_rate=0.0
    )
    return randomised(sam)


def randomised(sam: Sam) -> Sam:
    randomise(sam)
    return sam.eval()  # only here does the package spread the biases of attention over the pairs of cells
