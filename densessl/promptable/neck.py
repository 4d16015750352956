"""The neck that brings an encoder's last features to the channels that prompts are compared with."""

from torch import nn

from densessl.promptable.channel_norm import ChannelNorm


def build_neck(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build 1x1 convolution, norm, 3x3 convolution, norm (ViTDet, arXiv:2203.16527, as SAM uses it), without biases."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        ChannelNorm(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        ChannelNorm(out_channels),
    )
