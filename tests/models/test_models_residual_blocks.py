"""Residual blocks."""

import torch

from densessl.models.residual_blocks import convnext_block


def test_a_block_keeps_the_shape_and_adds_to_its_input() -> None:
    torch.manual_seed(0)
    block, features = convnext_block(6), torch.randn(2, 6, 9, 5)
    assert block(features).shape == features.shape
    for name, value in block.named_parameters():
        if name.startswith("mlp.fc2"):
            torch.nn.init.zeros_(value)
    assert torch.equal(block(features), features)
