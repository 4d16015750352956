"""Attention rollout: how much of each patch reaches the [CLS] token through all layers."""

import torch

from densessl.attention.maps import Attention
from densessl.errors import InputError

QUERIES_AT_ONCE = 512
"""Rows of the attention matrix that are in memory at once."""


@torch.no_grad()
def rollout(attention: Attention) -> torch.Tensor:
    """Return the attention rollout from [CLS] to the patches (Abnar and Zuidema 2020, section 3, equation 1).

    With A_l the mean over heads of the attention of layer l, the residual connection an identity of equal weight:

        rollout_l = (0.5 A_l + 0.5 I) rollout_{l-1},  rollout_0 = I

    The result is the row of [CLS] after the last layer. A row is all that is needed, so it is carried from the last
    layer to the first, and the matrices of tokens by tokens are made a few rows at a time and never kept.

    Args:
        attention: of `attention_maps(..., for_rollout=True)`.

    Returns:
        float32 (batch, grid height, grid width), at least 0; the whole row sums to 1, [CLS] and registers included.

    Raises:
        InputError: the attention holds no queries and keys.
    """
    if not attention.queries:
        raise InputError("the attention holds no queries and keys; make it by attention_maps(..., for_rollout=True)")
    first = attention.queries[0]
    row = torch.zeros(first.shape[0], first.shape[2], device=first.device)  # (batch, tokens)
    row[:, 0] = 1
    for queries, keys in zip(reversed(attention.queries), reversed(attention.keys), strict=True):
        row = 0.5 * row + 0.5 * _through_layer(row, queries, keys)
    patches = row[:, attention.num_prefix_tokens :]
    return patches.unflatten(1, (attention.maps.shape[-2], attention.maps.shape[-1]))


def _through_layer(row: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return row @ A, A the mean attention over heads, float32 (batch, tokens)."""
    reached = torch.zeros_like(row)
    asking = row.any(dim=0).nonzero()[:, 0]  # at the last layer [CLS] alone
    for tokens in asking.split(QUERIES_AT_ONCE):
        shares = (
            (queries[:, :, tokens] @ keys.transpose(-2, -1)).float().softmax(dim=-1)
        )  # (batch, heads, some, tokens)
        reached += torch.einsum("bq,bhqt->bt", row[:, tokens], shares)
    return reached / queries.shape[1]
