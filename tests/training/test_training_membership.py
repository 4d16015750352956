"""Masks of a batch one by one, in all views, weighed where the masks say how sure they are; and parts of a batch."""

import torch

from densessl.objectives.mask_contrast import Confidence
from densessl.structures import LocalViews, ViewBatch
from densessl.training.batches import split_batch
from densessl.training.membership import membership_of


def _masks() -> tuple[torch.Tensor, torch.Tensor, LocalViews]:
    """Two images; the first has masks 1 and 2, the second mask 1, which the key view lacks."""
    query, key = torch.zeros(2, 2, 4, 4, dtype=torch.int64)
    query[0, 0], query[0, 1], query[1, :, 0] = 1, 2, 1
    key[0, :2], key[0, 3] = 2, 1
    local = torch.zeros(3, 2, 2, 2, dtype=torch.int64)
    local[0, 0, 0], local[0, 1], local[1, 0, 0, 0] = 2, 1, 3  # a third mask, which neither view shows
    return query, key, LocalViews(torch.randn(3, 2, 3, 2, 2), local)


def test_each_mask_in_each_view() -> None:
    query, key, local = _masks()
    found = membership_of(query, key, local)
    assert found.query.image.tolist() == found.key.image.tolist() == [0, 0, 1]
    assert found.query.membership.flatten(1).sum(1).tolist() == [4, 4, 4]
    assert found.key.membership.flatten(1).sum(1).tolist() == [4, 8, 0]
    assert found.is_present.tolist() == [True, True, False]
    assert found.local.image.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]  # of the six local images
    assert found.local.membership.flatten(1).sum(1).tolist() == [0, 2, 4, 0, 0, 0, 0, 0, 0]
    rows = found.local_rows(torch.arange(18.0).view(9, 2))
    assert rows.embedding.shape == (3, 3, 2)
    assert rows.embedding[1, 2].tolist() == [10, 11]
    assert rows.is_present.tolist() == [[False, True, True], [False] * 3, [False] * 3]
    assert membership_of(query, key).local is membership_of(query, key).local_rows(None) is None


def test_unsure_pixels_belong_less() -> None:
    query, key, local = _masks()
    sure = torch.full((2, 4, 4), 0.5)
    sure[0, 3] = 0.0
    local = LocalViews(local.images, local.masks, torch.full((3, 2, 2, 2), 0.25))
    found = membership_of(query, key, local, Confidence(sure, sure))
    assert found.query.membership.flatten(1).sum(1).tolist() == [2, 2, 2]
    assert found.key.membership.flatten(1).sum(1).tolist() == [0, 4, 0]
    assert found.is_present.tolist() == [False, True, False]
    assert float(found.local.membership.sum()) == 6 * 0.25


def test_parts_of_a_batch_keep_their_local_views_and_confidence() -> None:
    images, masks = torch.randn(5, 3, 4, 4), torch.arange(5 * 16).view(5, 4, 4)
    local = LocalViews(torch.randn(2, 5, 3, 2, 2), torch.arange(40).view(2, 5, 2, 2), torch.rand(2, 5, 2, 2))
    batch = ViewBatch(images, masks, images, masks, tuple("abcde"), local, masks / 80, masks / 160)
    parts = split_batch(batch, 2)
    assert [part.stems for part in parts] == [("a", "b", "c"), ("d", "e")]
    for name in ("images", "masks", "confidence"):
        together = torch.cat([getattr(part.local, name) for part in parts], dim=1)
        assert torch.equal(together, getattr(local, name))
    for name in ("query_confidence", "key_confidence"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    plain = split_batch(ViewBatch(images, masks, images, masks, tuple("abcde")), 2)
    assert plain[0].local is plain[0].query_confidence is None
