"""SAM's image encoder: a vision transformer with windowed attention and decomposed relative positions.

Kirillov et al., Segment Anything, arXiv:2304.02643, appendix A; the windows are ViTDet's (arXiv:2203.16527), the
relative positions MViTv2's (arXiv:2112.01526, equation 4). Attributes bear the names of the published weights.
"""

from dataclasses import dataclass

import torch
from torch import nn

from densessl.errors import InputError
from densessl.promptable.feed_forward import FeedForward
from densessl.promptable.neck import build_neck
from densessl.promptable.windows import join_windows, split_windows

_PATCH_PX = 16
_EPSILON = 1e-6  # of the block's layer norms, as published
_MAX_BIAS_VALUES = 2**24
"""Relative positions of so many pairs of tokens are held at a time (64 MiB in float32): all pairs of a 64 x 64 grid
take 12 times as much in ViT-B."""


@dataclass(frozen=True)
class VisionTransformerShape:
    """The measures of a vision transformer.

    dim: of a token. depth: blocks. num_heads: of each attention. global_blocks: blocks (from 0) whose tokens attend to
    the whole image. mlp_dim: hidden layer of the perceptrons. window: side of the windows of the others, in tokens.
    """

    dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    mlp_dim: int
    window: int = 14

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise InputError(
                f"a vision transformer of dim {self.dim} cannot have num_heads {self.num_heads}; they must divide it"
            )


VIT_B = VisionTransformerShape(768, 12, 12, (2, 5, 8, 11), 3072)
VIT_L = VisionTransformerShape(1024, 24, 16, (5, 11, 17, 23), 4096)
VIT_H = VisionTransformerShape(1280, 32, 16, (7, 15, 23, 31), 5120)


class VisionTransformer(nn.Module):
    """Encode images (batch, 3, height, width), normalised, to (batch, channels, height / 16, width / 16).

    size_px: side of the square that the position embeddings are made for. Images of another size get them resampled
    (bicubic, and linear for relative positions), which is no part of the published model.
    """

    def __init__(self, shape: VisionTransformerShape, size_px: int, num_channels: int) -> None:
        super().__init__()
        grid = size_px // _PATCH_PX
        self.patch_embed = PatchEmbedding(shape.dim)
        self.pos_embed = nn.Parameter(torch.empty(1, grid, grid, shape.dim))
        self.blocks = nn.ModuleList(
            Block(shape, None if index in shape.global_blocks else shape.window, grid) for index in range(shape.depth)
        )
        self.neck = build_neck(shape.dim, num_channels)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed(images)  # (batch, height, width, dim)
        tokens = tokens + self._positions(tokens.shape[1], tokens.shape[2])
        for block in self.blocks:
            tokens = block(tokens)
        return self.neck(tokens.permute(0, 3, 1, 2))

    def _positions(self, height: int, width: int) -> torch.Tensor:
        if _is_known(height, width) and self.pos_embed.shape[1:3] == (height, width):
            return self.pos_embed
        maps = self.pos_embed.permute(0, 3, 1, 2)
        return nn.functional.interpolate(maps, (height, width), mode="bicubic").permute(0, 2, 3, 1)


class PatchEmbedding(nn.Module):
    """Project the patches of images (batch, 3, height, width) to tokens (batch, h, w, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, _PATCH_PX, stride=_PATCH_PX)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(images).permute(0, 2, 3, 1).contiguous()  # else no block would work on adjacent values


class Block(nn.Module):
    """Attention, in windows of side `window` or over the whole grid (None), and a perceptron; norms come first."""

    def __init__(self, shape: VisionTransformerShape, window: int | None, grid: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(shape.dim, eps=_EPSILON)
        self.attn = RelativeAttention(shape.dim, shape.num_heads, window or grid)
        self.norm2 = nn.LayerNorm(shape.dim, eps=_EPSILON)
        self.mlp = FeedForward(shape.dim, shape.mlp_dim, nn.GELU())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self._attend(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def _attend(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.window is None:
            return self.attn(tokens)
        batch, height, width, _ = tokens.shape
        mixed = self.attn(split_windows(tokens, self.window))
        return join_windows(mixed, self.window, (batch, height, width))


class RelativeAttention(nn.Module):
    """Multi-head attention over a grid whose scores have a term for the distance in each direction.

    score(i, j) = q_i . k_j / sqrt(d) + q_i . R_height[y_i - y_j] + q_i . R_width[x_i - x_j], d being the dimensions of
    a head; the tables R are shared by the heads.
    """

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix tokens (batch, height, width, dim) over the whole grid."""
        batch, height, width, dim = tokens.shape
        projected = self.qkv(tokens).reshape(batch, height, width, 3, self.num_heads, -1)
        query, key, value = projected.permute(3, 0, 4, 1, 2, 5).unbind(0)  # (batch, heads, height, width, head dim)
        rows, columns = relative_table(self.rel_pos_h, height), relative_table(self.rel_pos_w, width)
        key, value = key.flatten(2, 3), value.flatten(2, 3)
        parts = [
            nn.functional.scaled_dot_product_attention(
                query[:, :, part].flatten(2, 3), key, value, relative_bias(query[:, :, part], rows[part], columns)
            )
            for part in self._row_bands(batch, height, width)
        ]
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)  # (batch, heads, height * width, head dim)
        return self.proj(mixed.transpose(1, 2).reshape(batch, height, width, dim))

    def _row_bands(self, batch: int, height: int, width: int) -> list[slice]:
        """Cut the queries into bands of rows whose biases stay below a bound; their results are the same."""
        if torch.compiler.is_exporting():  # a traced program must not depend on the number of bands
            return [slice(None)]
        per_row = batch * self.num_heads * width * height * width
        band = max(1, _MAX_BIAS_VALUES // per_row)
        return [slice(start, start + band) for start in range(0, height, band)]


def relative_table(table: torch.Tensor, side: int) -> torch.Tensor:
    """Return the entries of a table (2 n - 1, dim) for all pairs of `side` positions: (side, side, dim), [i, j] being
    that of the distance i - j; a table for another n is resampled linearly.
    """
    if not (_is_known(side) and table.shape[0] == 2 * side - 1):
        table = nn.functional.interpolate(table.T[None], 2 * side - 1, mode="linear")[0].T
    positions = torch.arange(side, device=table.device)
    return table[positions[:, None] - positions + side - 1]


def relative_bias(query: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the position terms of the scores, (batch, heads, queries, keys).

    query: (batch, heads, height, width, dim). rows: (height, key height, dim). columns: (width, key width, dim).
    """
    of_rows = torch.einsum("bnhwc,hkc->bnhwk", query, rows).contiguous()  # so that their sum, which is large, is too
    of_columns = torch.einsum("bnhwc,wkc->bnhwk", query, columns).contiguous()
    bias = of_rows[..., :, None] + of_columns[..., None, :]  # (batch, heads, height, width, key height, key width)
    return bias.flatten(4, 5).flatten(2, 3)


def _is_known(*sides: int) -> bool:
    """Say whether sides are numbers: in a program exported for any size they are symbols, and positions are resampled
    in any case, which for their own size is the identity.
    """
    return all(isinstance(side, int) for side in sides)
