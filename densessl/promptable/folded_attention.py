"""Attention between few tokens and many cells whose projections are folded into the tokens.

Scores are q . (W_k x + b_k) = (W_k^T q) . x + q . b_k, and the result is W_o (sum_i a_i (W_v x_i + b_v)) + b_o: with
few tokens it is cheaper to bring W_k, W_v and, for cells that attend, W_q and W_o to the tokens than to the cells. With
T tokens and H heads the products with cells shrink from the inner dimension to T * H columns (56 instead of 128 for one
click on the published model). The equations are the same; sums are rounded in another order.
"""

from typing import Protocol

import torch
from torch import nn


class Projections(Protocol):
    """What is needed of an attention: its heads and its four projections (`CrossAttention`)."""

    num_heads: int
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear


def attend_to_cells(
    attention: Projections, tokens: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Attend from tokens (num_prompts, n, dim) to cells: key and value (num_prompts, num_cells, dim)."""
    query = _heads(attention.q_proj(tokens), attention.num_heads)  # (num_prompts, heads, n, head dim)
    query = query * query.shape[-1] ** -0.5
    weights = _folded_scores(query, attention.k_proj, key).softmax(3).flatten(1, 2)  # (num_prompts, heads * n, cells)
    mixed = (weights @ value).unflatten(1, (attention.num_heads, -1))  # (num_prompts, heads, n, dim)
    values = mixed @ _heads_of_weight(attention.v_proj, attention.num_heads).transpose(1, 2)
    return attention.out_proj(values.transpose(1, 2).flatten(2) + attention.v_proj.bias)


def attend_from_cells(
    attention: Projections, cells: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Attend from cells (num_prompts or 1, num_cells, dim) to tokens: key and value (num_prompts, n, dim)."""
    keys = _heads(attention.k_proj(key), attention.num_heads)  # (num_prompts, heads, n, head dim)
    keys = keys * keys.shape[-1] ** -0.5
    if cells.shape[0] < key.shape[0]:  # one projection serves all prompts
        queries = _heads(attention.q_proj(cells), attention.num_heads)
        scores = keys @ queries.transpose(2, 3)  # (num_prompts, heads, n, num_cells)
    else:
        scores = _folded_scores(keys, attention.q_proj, cells)
    weights = scores.softmax(2).flatten(1, 2)  # (num_prompts, heads * n, num_cells)
    output = attention.out_proj.weight.unflatten(1, (attention.num_heads, -1)).permute(
        1, 2, 0
    )  # (heads, head dim, dim)
    values = _heads(attention.v_proj(value), attention.num_heads) @ output  # (num_prompts, heads, n, dim)
    values = values + attention.out_proj.bias / attention.num_heads  # the weights of each head sum to 1
    return weights.transpose(1, 2) @ values.flatten(1, 2)


def _folded_scores(tokens: torch.Tensor, projection: nn.Linear, cells: torch.Tensor) -> torch.Tensor:
    """Return the products (num_prompts, heads, n, num_cells) of projected tokens (num_prompts, heads, n, head dim) with
    cells (num_prompts, num_cells, dim) that are yet to be projected.
    """
    num_heads = tokens.shape[1]
    folded = tokens @ _heads_of_weight(projection, num_heads)  # (num_prompts, heads, n, dim)
    bias = tokens @ projection.bias.unflatten(0, (num_heads, -1))[..., None]  # (num_prompts, heads, n, 1)
    return (folded.flatten(1, 2) @ cells.transpose(1, 2)).unflatten(1, (num_heads, -1)) + bias


def _heads(projected: torch.Tensor, num_heads: int) -> torch.Tensor:
    return projected.unflatten(2, (num_heads, -1)).transpose(1, 2)  # (b, heads, n, head dim)


def _heads_of_weight(projection: nn.Linear, num_heads: int) -> torch.Tensor:
    return projection.weight.unflatten(0, (num_heads, -1))  # (heads, head dim, dim)
