"""The two-way transformer: prompt tokens attend to the image, and the image to them (arXiv:2304.02643, figure 14)."""

import torch
from torch import nn

from densessl.errors import InputError
from densessl.promptable.feed_forward import FeedForward
from densessl.promptable.folded_attention import attend_from_cells, attend_to_cells


class TwoWayTransformer(nn.Module):
    """Layers of attention in both directions; attributes bear the names of the published weights.

    dim: of tokens and cells. depth: layers. num_heads: of each attention. mlp_dim: hidden layer of the perceptrons.
    The attention between tokens and image works in half the dimensions.
    """

    def __init__(self, dim: int, depth: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        if dim % (2 * num_heads):
            raise InputError(
                f"a two-way transformer of dim {dim} cannot have num_heads {num_heads}; dim must be a multiple of "
                f"{2 * num_heads}"
            )
        self.layers = nn.ModuleList(TwoWayLayer(dim, num_heads, mlp_dim, is_first=index == 0) for index in range(depth))
        self.final_attn_token_to_image = CrossAttention(dim, dim // 2, num_heads)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(
        self, cells: torch.Tensor, positions: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (num_prompts, n, dim) and cells (num_prompts, num_cells, dim).

        Args:
            cells: (num_prompts, num_cells, dim), or (1, num_cells, dim) where all prompts see the same image: the first
                layer then projects it once for all.
            positions: (1, num_cells, dim), added to the cells wherever they are compared.
            tokens: (num_prompts, n, dim), added to themselves wherever they are compared.
        """
        queries, num_prompts = tokens, tokens.shape[0]
        for layer in self.layers:
            queries, cells = layer(queries, cells, tokens, positions)
        attended = self.final_attn_token_to_image(queries + tokens, cells + positions, cells, num_prompts)
        return self.norm_final_attn(queries + attended), cells


class TwoWayLayer(nn.Module):
    """Attention among tokens, from tokens to cells, a perceptron, and attention from cells to tokens, each residual.

    In the first layer tokens are their own positions: they are not added, and there is no residual to attention among
    tokens, as published.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = CrossAttention(dim, dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = CrossAttention(dim, dim // 2, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, mlp_dim, nn.ReLU())
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = CrossAttention(dim, dim // 2, num_heads)

    def forward(
        self, queries: torch.Tensor, cells: torch.Tensor, tokens: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        num_prompts = tokens.shape[0]
        if self.is_first:
            queries = self.norm1(self.self_attn(queries, queries, queries, num_prompts))
        else:
            placed = queries + tokens
            queries = self.norm1(queries + self.self_attn(placed, placed, queries, num_prompts))
        placed_cells = cells + positions
        attended = self.cross_attn_token_to_image(queries + tokens, placed_cells, cells, num_prompts)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))
        attended = self.cross_attn_image_to_token(placed_cells, queries + tokens, queries, num_prompts)
        return queries, self.norm4(cells + attended)


class CrossAttention(nn.Module):
    """Multi-head attention in `inner_dim` dimensions between sequences of width `dim`.

    A sequence of batch 1 is projected once and attended to, or from, by all prompts. A long sequence of each prompt's
    own, beside few tokens, is not projected at all: the projection is folded into the tokens (`folded_attention`).
    """

    def __init__(self, dim: int, inner_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(dim, inner_dim)
        self.v_proj = nn.Linear(dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_prompts: int) -> torch.Tensor:
        """Attend from query (b, n, dim) to key and value (b, m, dim); each b is the number of prompts or 1."""
        if not torch.compiler.is_exporting():  # a traced program must not depend on the number of tokens
            if key.shape[0] == num_prompts and self._has_few(query.shape[1], key.shape[1]):
                return attend_to_cells(self, query, key, value)
            if self._has_few(key.shape[1], query.shape[1]):
                return attend_from_cells(self, query, key, value)
        mixed = nn.functional.scaled_dot_product_attention(
            self._heads(self.q_proj(query), num_prompts),
            self._heads(self.k_proj(key), num_prompts),
            self._heads(self.v_proj(value), num_prompts),
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _has_few(self, num_tokens: int, num_cells: int) -> bool:
        """Say whether all heads of all tokens are fewer vectors than the dimensions that cells are projected to."""
        return num_tokens < num_cells and num_tokens * self.num_heads < self.q_proj.out_features

    def _heads(self, projected: torch.Tensor, num_prompts: int) -> torch.Tensor:
        heads = projected.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (b, heads, n, head dim)
        return heads.expand(num_prompts, -1, -1, -1)
