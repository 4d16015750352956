"""Local views: their rows against the same columns, the mean over views, and crops without foreground."""

import dataclasses

import pytest
import torch

from densessl.objectives.mask_contrast import LocalMasks, LocalPixels, contrast_masks, contrast_views
from densessl.objectives.settings import ObjectiveSettings

SETTINGS = ObjectiveSettings(queue_length=6)


def _views(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Three images of up to two masks; the key view of the last shows its first mask alone."""
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, 3, 5, 4, 6, generator=generator)
    masks = torch.zeros(2, 3, 8, 12, dtype=torch.int64)
    masks[:, :, 1:5, 2:8] = 1
    masks[0, 2, 5:8] = 2
    masks[:, 1, 5:8] = 2
    queue = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=1)
    return query, masks[0], key, masks[1], queue


def _local(num: int, seed: int = 1) -> LocalPixels:
    """Local views of half the size; the second holds masks that the key view may lack, the third no foreground."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(num, 3, 4, 6, dtype=torch.int64)
    masks[0, :, 1:] = 1
    if num > 1:
        masks[1, :, :2] = 2
        masks[1, 1, 2:] = 3
    return LocalPixels(torch.randn(num, 3, 5, 2, 3, generator=generator).requires_grad_(), masks)


@pytest.mark.parametrize("mode", ["reference", "formula"])
@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_the_loss_is_the_mean_over_views_of_the_same_loss(mode: str, resolution: str) -> None:
    """A local view by itself is a query view of another size: its loss is that of `contrast_views` on it."""
    query, query_masks, key, key_masks, queue = _views()
    settings = dataclasses.replace(SETTINGS, mode=mode, resolution=resolution, exclude_similar=0.2)
    local = _local(3)
    term = contrast_views(query.requires_grad_(), query_masks, key, key_masks, queue, settings, None, local)
    own = contrast_views(query, query_masks, key, key_masks, queue, settings)
    losses = [own.loss]
    for embedding, masks in zip(local.embedding[:2], local.masks[:2], strict=True):
        known = torch.where(masks > torch.tensor([1, 2, 2]).view(3, 1, 1), 0, masks)  # what both other views know
        losses.append(contrast_views(embedding, known, key, key_masks, queue, settings).loss)
    expected = torch.stack(losses).mean()  # the third local view has no row and does not count
    torch.testing.assert_close(term.loss, expected, rtol=1e-6, atol=1e-6)
    for name in ("prototypes", "positive_similarity", "negative_similarity", "false_negative_share"):
        assert torch.equal(getattr(term, name), getattr(own, name))
    found = torch.autograd.grad(term.loss, [query, local.embedding])
    wanted = torch.autograd.grad(expected, [query, local.embedding])
    assert torch.count_nonzero(found[1][:2]) > 0
    assert torch.count_nonzero(found[1][2]) == 0
    for first, second in zip(found, wanted, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-7)


def test_a_local_view_by_a_slow_loop() -> None:
    query, query_masks, key, key_masks, queue = _views()
    local = _local(1)
    settings = dataclasses.replace(SETTINGS, mode="formula")
    term = contrast_views(query, query_masks, key, key_masks, queue, settings, None, local)
    alone = contrast_views(query, query_masks, key, key_masks, queue, settings)
    total, num = 0.0, 0
    first = [0, 1, 3]  # row of the first mask of each image among the prototypes
    for image in range(3):
        for row in range(2):
            for column in range(3):
                if local.masks[0, image, 2 * row + 1, 2 * column + 1] != 1:  # nearest sampling takes the middle
                    continue
                z = torch.nn.functional.normalize(local.embedding[0, image, :, row, column], dim=0)
                positive = torch.exp(z @ term.prototypes[first[image]] / 0.5)
                total = total - torch.log(positive / (positive + torch.exp(queue @ z / 0.5).sum()))
                num += 1
    assert num > 0
    torch.testing.assert_close(2 * term.loss - alone.loss, total / num, rtol=1e-5, atol=1e-5)


def test_local_masks_that_were_embedded_as_wholes() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 4, 5, generator=generator)
    queue = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=1)
    is_present = torch.tensor([True, False, True, True])
    shown = torch.tensor([[True, True, False, True], [False, True, False, False]])
    local = LocalMasks(torch.randn(2, 4, 5, generator=generator), shown)
    term = contrast_masks(query, key, is_present, queue, SETTINGS, None, local)
    unit = torch.nn.functional.normalize
    prototypes = unit(key[[0, 2, 3]], dim=1)
    columns = torch.cat([prototypes, queue])
    rows = unit(local.embedding[0][[0, 3]], dim=1) @ columns.T / 0.5
    own = torch.nn.functional.cross_entropy(rows, torch.tensor([0, 2]))
    alone = contrast_masks(query, key, is_present, queue, SETTINGS)
    torch.testing.assert_close(term.loss, (alone.loss + own) / 2)
    assert torch.equal(term.prototypes, alone.prototypes)
