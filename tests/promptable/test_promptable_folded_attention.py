"""Folded attention against the projections and the softmax written out."""

import pytest
import torch

from densessl.promptable.folded_attention import attend_from_cells, attend_to_cells
from densessl.promptable.two_way_transformer import CrossAttention


def by_loop(attention: CrossAttention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) V of each prompt and head; a sequence of batch 1 is that of all prompts."""
    num_prompts = max(len(query), len(key))
    results = []
    for prompt in range(num_prompts):
        own = [part[prompt if len(part) > 1 else 0] for part in (query, key, value)]
        q, k, v = attention.q_proj(own[0]), attention.k_proj(own[1]), attention.v_proj(own[2])
        width = q.shape[1] // attention.num_heads
        heads = [
            (q[:, part] @ k[:, part].T / width**0.5).softmax(1) @ v[:, part]
            for part in (slice(head * width, (head + 1) * width) for head in range(attention.num_heads))
        ]
        results.append(attention.out_proj(torch.cat(heads, dim=1)))
    return torch.stack(results)


@pytest.fixture
def attention() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(12, 8, 2).double()


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]), dtype=torch.float64)


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_tokens_attend_to_cells(attention: CrossAttention, num_prompts: int) -> None:
    tokens, cells = drawn(num_prompts, 2, 12), drawn(num_prompts, 30, 12)
    found = attend_to_cells(attention, tokens, cells + 1, cells)
    torch.testing.assert_close(found, by_loop(attention, tokens, cells + 1, cells))


@pytest.mark.parametrize(("num_prompts", "num_images"), [(1, 1), (3, 3), (3, 1)])
def test_cells_attend_to_tokens(attention: CrossAttention, num_prompts: int, num_images: int) -> None:
    tokens, cells = drawn(num_prompts, 2, 12), drawn(num_images, 30, 12)
    found = attend_from_cells(attention, cells, tokens + 1, tokens)
    torch.testing.assert_close(found, by_loop(attention, cells, tokens + 1, tokens))


def test_the_attention_folds_where_tokens_are_few(attention: CrossAttention) -> None:
    cells = drawn(2, 30, 12)
    for num_tokens in (3, 4, 29):  # of 2 heads and 8 dimensions, 3 tokens are few
        tokens = drawn(2, num_tokens, 12)
        torch.testing.assert_close(attention(tokens, cells, cells, 2), by_loop(attention, tokens, cells, cells))
        torch.testing.assert_close(attention(cells, tokens, tokens, 2), by_loop(attention, cells, tokens, tokens))


def test_gradients_are_those_of_the_loop(attention: CrossAttention) -> None:
    tokens, cells = drawn(2, 2, 12).requires_grad_(), drawn(2, 30, 12).requires_grad_()
    inputs = [tokens, cells, *attention.parameters()]
    for folded, ordinary in (
        (attend_to_cells(attention, tokens, cells, cells), by_loop(attention, tokens, cells, cells)),
        (attend_from_cells(attention, cells, tokens, tokens), by_loop(attention, cells, tokens, tokens)),
    ):
        found, expected = (torch.autograd.grad(result.square().sum(), inputs) for result in (folded, ordinary))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
