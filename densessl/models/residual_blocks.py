"""Residual blocks of convolutions that keep size and channels of a feature map."""

from timm.models.convnext import ConvNeXtBlock
from torch import nn


def convnext_block(num_channels: int) -> nn.Module:
    """Build a ConvNeXt block (arXiv:2201.03545) with random weights, for (batch, num_channels, height, width).

    Without layer scale: that lets deep networks begin as identities, and slows the few blocks of a neck down.
    """
    block: nn.Module = ConvNeXtBlock(num_channels, ls_init_value=None)
    return block
