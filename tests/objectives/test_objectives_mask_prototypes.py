"""Numbering of masks and their prototypes, against loops over masks and pixels."""

import pytest
import torch
from torch.nn import functional as F

from densessl.objectives.mask_prototypes import index_masks, mask_prototypes, number_masks


def _embeddings(batch: int, height: int, width: int) -> torch.Tensor:
    values = torch.randn(batch, 5, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return F.normalize(values, dim=1)


def _loop(embeddings: torch.Tensor, masks: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Sum over pixels of the mask, the mask being at the embeddings' size or a whole multiple of it."""
    step = masks.shape[-1] // embeddings.shape[-1]
    rows = []
    for number, where in enumerate(image.tolist()):
        total = torch.zeros(embeddings.shape[1], dtype=embeddings.dtype)
        for y in range(masks.shape[1]):
            for x in range(masks.shape[2]):
                if int(masks[where, y, x]) == number:
                    total = total + embeddings[where, :, y // step, x // step]
        rows.append(total / total.norm().clamp_min(1e-300))
    return torch.stack(rows)


def test_masks_are_numbered_through_the_batch() -> None:
    query, key = torch.zeros(3, 2, 4, dtype=torch.int64), torch.zeros(3, 3, 2, dtype=torch.int64)
    query[0, 0, :2], query[0, 1, 3] = 1, 2  # image 0: masks 1 and 2 in the query, 1 and 3 in the key
    key[0, 0, 0], key[0, 2, 1] = 1, 3
    query[2, 1] = 1  # image 1 has none, image 2 one
    index = index_masks(query, key)
    assert index.image.tolist() == [0, 0, 0, 2]
    assert index.query[0].tolist() == [[0, 0, -1, -1], [-1, -1, -1, 1]]
    assert index.key[0].tolist() == [[0, -1], [-1, -1], [-1, 2]]
    assert index.query[1].unique().tolist() == [-1]
    assert index.query[2].tolist() == [[-1] * 4, [3] * 4]
    assert index.key[2].unique().tolist() == [-1]


def test_a_batch_without_masks_has_no_numbers() -> None:
    index = index_masks(torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(2, 4, 4, dtype=torch.int64))
    assert index.image.shape == (0,)
    for grid in ((4, 4), (2, 2)):
        prototypes, is_present = mask_prototypes(torch.ones(2, 5, *grid), index.key, index.image)
        assert prototypes.shape == (0, 5)
        assert is_present.shape == (0,)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_prototypes_equal_the_loop(step: int) -> None:
    embeddings = _embeddings(2, 3, 5)
    masks = torch.full((2, 3 * step, 5 * step), -1)
    masks[0, : 2 * step, : 3 * step] = 0
    masks[0, -1, -2:] = 1
    masks[1, 1:, 2:4] = 2
    image = torch.tensor([0, 0, 1])
    prototypes, is_present = mask_prototypes(embeddings, masks, image)
    assert is_present.tolist() == [True, True, True]
    assert torch.allclose(prototypes, _loop(embeddings, masks, image), atol=1e-12)
    assert torch.allclose(prototypes.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_an_absent_mask_is_told_and_zero() -> None:
    masks = torch.full((1, 8, 12), -1)
    masks[0, 2:4, 2:4] = 1
    prototypes, is_present = mask_prototypes(_embeddings(1, 2, 3), masks, torch.tensor([0, 0]))
    assert is_present.tolist() == [False, True]
    assert prototypes[0].abs().sum() == 0


def test_a_mask_of_one_pixel_survives_a_coarse_grid() -> None:
    masks = torch.full((1, 16, 16), -1)
    masks[0, 1, 14] = 0
    embeddings = _embeddings(1, 2, 2)
    prototypes, is_present = mask_prototypes(embeddings, masks, torch.tensor([0]))
    assert is_present.item()
    assert torch.allclose(prototypes[0], embeddings[0, :, 0, 1])


def test_numbers_belong_to_their_own_image() -> None:
    """A number painted in another image than its own does not leak into its prototype."""
    masks = torch.full((2, 3, 5), -1)
    masks[0, 0], masks[1, 2] = 0, 1
    embeddings = _embeddings(2, 3, 5)
    together, _ = mask_prototypes(embeddings, masks, torch.tensor([0, 1]))
    alone, _ = mask_prototypes(embeddings[1:], torch.where(masks[1:] == 1, 0, -1), torch.tensor([0]))
    assert torch.allclose(together[1], alone[0])


def test_gradient_through_prototypes() -> None:
    masks = torch.full((1, 4, 4), -1)
    masks[0, :3, :2] = 0
    embeddings = _embeddings(1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: mask_prototypes(values, masks, torch.tensor([0]))[0], [embeddings])


def test_a_further_view_is_numbered_as_the_two() -> None:
    query, key = torch.zeros(2, 3, 2, 2, dtype=torch.int64)
    query[0, 0], key[0, 1], key[2, 0] = 1, 2, 1
    index = index_masks(query, key)
    further = torch.tensor([[[1, 2, 3]], [[1, 0, 0]], [[0, 1, 2]]])
    assert number_masks(further, index.image).tolist() == [[[0, 1, -1]], [[-1, -1, -1]], [[-1, 2, -1]]]
    assert torch.equal(number_masks(query, index.image), index.query)
    assert torch.equal(number_masks(key, index.image), index.key)
