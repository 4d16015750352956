"""MobileSAM's image encoder: TinyViT-5M with a neck.

Wu et al., TinyViT, arXiv:2207.10666, and Zhang et al., Faster Segment Anything, arXiv:2306.14289, which keeps the last
stage on the 1/16 grid. Attributes bear the names of the published weights; the classifier in those is not built.
"""

from dataclasses import dataclass

import torch
from torch import nn

from densessl.promptable.neck import build_neck
from densessl.promptable.windows import join_windows, split_windows

_EXPANSION = 4  # hidden channels of the convolution blocks and of the perceptrons, as published


@dataclass(frozen=True)
class TinyVitShape:
    """The measures of a TinyViT, one value for each of the four stages.

    dims: channels. depths: blocks. num_heads, windows: of the attention; the first stage has none (convolutions).
    """

    dims: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    num_heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)


class TinyVit(nn.Module):
    """Encode images (batch, 3, height, width), normalised, to (batch, channels, height / 16, width / 16).

    Sides of the images are multiples of 16. There are no position embeddings, so any size will do.
    """

    def __init__(self, shape: TinyVitShape, num_channels: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(shape.dims[0])
        self.layers = nn.ModuleList(Stage(shape, index) for index in range(len(shape.dims)))
        self.neck = build_neck(shape.dims[-1], num_channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.patch_embed(images)  # (batch, channels, height / 4, width / 4)
        for stage in self.layers:
            features = stage(features)
        return self.neck(features)


class Stage(nn.Module):
    """The blocks of one stage, and the step to the next: two of the three halve the grid."""

    def __init__(self, shape: TinyVitShape, index: int) -> None:
        super().__init__()
        dim, is_last = shape.dims[index], index + 1 == len(shape.dims)
        self.blocks = nn.ModuleList(
            ConvolutionBlock(dim) if index == 0 else AttentionBlock(dim, shape.num_heads[index], shape.windows[index])
            for _ in range(shape.depths[index])
        )
        stride = 1 if index + 2 == len(shape.dims) else 2
        self.downsample = None if is_last else PatchMerging(dim, shape.dims[index + 1], stride)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            features = block(features)
        return features if self.downsample is None else self.downsample(features)


class NormedConvolution(nn.Sequential):
    """A convolution without bias, padded to keep the grid, and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(in_channels, out_channels, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)


class PatchEmbedding(nn.Module):
    """Two convolutions of stride 2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            NormedConvolution(3, dim // 2, 3, stride=2), nn.GELU(), NormedConvolution(dim // 2, dim, 3, stride=2)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.seq(images)


class ConvolutionBlock(nn.Module):
    """Inverted bottleneck (MobileNetV2) with a residual connection, activated after the sum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = _EXPANSION * dim
        self.conv1 = NormedConvolution(dim, hidden)
        self.conv2 = NormedConvolution(hidden, hidden, 3, groups=hidden)
        self.conv3 = NormedConvolution(hidden, dim)
        nn.init.zeros_(self.conv3.bn.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        gelu = nn.functional.gelu
        return gelu(features + self.conv3(gelu(self.conv2(gelu(self.conv1(features))))))


class PatchMerging(nn.Module):
    """The step from one stage to the next."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = NormedConvolution(dim, out_dim)
        self.conv2 = NormedConvolution(out_dim, out_dim, 3, stride=stride, groups=out_dim)
        self.conv3 = NormedConvolution(out_dim, out_dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        gelu = nn.functional.gelu
        return self.conv3(gelu(self.conv2(gelu(self.conv1(features)))))


class AttentionBlock(nn.Module):
    """Attention in windows, a depthwise convolution, and a perceptron; attention and perceptron are residual."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = BiasedAttention(dim, num_heads, window)
        self.local_conv = NormedConvolution(dim, dim, 3, groups=dim)
        self.mlp = Perceptron(dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        tokens = features.permute(0, 2, 3, 1)  # (batch, height, width, dim)
        batch, height, width, _ = tokens.shape
        mixed = self.attn(split_windows(tokens, self.window).flatten(1, 2))
        tokens = tokens + join_windows(mixed, self.window, (batch, height, width))
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (tokens + self.mlp(tokens)).permute(0, 3, 1, 2)


class BiasedAttention(nn.Module):
    """Multi-head attention over the tokens of windows, with a learned bias for each head and absolute distance."""

    bias_index: torch.Tensor

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window**2))
        self.register_buffer("bias_index", distance_index(window), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix tokens (num_windows, window * window, dim) within each window."""
        num_windows, num_tokens, dim = tokens.shape
        projected = self.qkv(self.norm(tokens)).view(num_windows, num_tokens, self.num_heads, 3, -1)
        query, key, value = projected.permute(3, 0, 2, 1, 4).unbind(0)  # (num_windows, heads, tokens, head dim)
        bias = self.attention_biases[:, self.bias_index].to(query.dtype)[None]
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, bias)
        return self.proj(mixed.transpose(1, 2).reshape(num_windows, num_tokens, dim))


class Perceptron(nn.Module):
    """Norm and two linear layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, _EXPANSION * dim)
        self.fc2 = nn.Linear(_EXPANSION * dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(self.norm(tokens))))


def distance_index(window: int) -> torch.Tensor:
    """Return int64 (window^2, window^2): |dy| * window + |dx| of each pair of cells of a window."""
    positions = torch.arange(window)
    distance = (positions[:, None] - positions).abs()
    index = distance[:, None, :, None] * window + distance[None, :, None, :]  # (y1, x1, y2, x2)
    return index.reshape(window**2, window**2)
