"""Windows: every token keeps its place, padding is zero and is cut off again."""

import torch

from densessl.promptable.windows import join_windows, split_windows


def test_windows_are_cut_in_reading_order_and_padded_with_zeros() -> None:
    tokens = torch.arange(1.0, 13).view(1, 3, 4, 1)
    windows = split_windows(tokens, 2)[..., 0]
    assert windows.tolist() == [[[1, 2], [5, 6]], [[3, 4], [7, 8]], [[9, 10], [0, 0]], [[11, 12], [0, 0]]]


def test_joining_undoes_splitting() -> None:
    tokens = torch.randn(2, 5, 9, 3, generator=torch.Generator().manual_seed(0))
    for side in (1, 4, 5, 16):
        assert torch.equal(join_windows(split_windows(tokens, side), side, (2, 5, 9)), tokens)
