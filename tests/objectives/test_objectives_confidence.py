"""The loss with weighted pixels: a slow loop, weights of one, weights as repeated rows, and parts of a batch."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from densessl.objectives.contrastive_losses import formula_loss, reference_loss
from densessl.objectives.mask_contrast import Confidence, LocalPixels, contrast_views
from densessl.objectives.mask_prototypes import mask_prototypes
from densessl.objectives.settings import ObjectiveSettings

LOSSES = {"formula": formula_loss, "reference": reference_loss}
MASKS = torch.tensor([0, 0, 1, 0, 1, 2, 0])


def _unit(num: int, seed: int) -> torch.Tensor:
    rows = torch.randn(num, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=1)


def _mass(weights: torch.Tensor) -> torch.Tensor:
    return torch.bincount(MASKS, weights)


@pytest.mark.parametrize("mode", LOSSES)
@pytest.mark.parametrize("exclude", [0.0, 0.4])
def test_a_weight_of_three_is_a_row_three_times(mode: str, exclude: float) -> None:
    weights = torch.tensor([1, 3, 2, 1, 1, 2, 4])
    rows, prototypes, queue = _unit(7, 1).requires_grad_(), _unit(3, 2), _unit(5, 3)
    found = LOSSES[mode](
        rows,
        MASKS,
        prototypes,
        queue,
        0.5,
        exclude_similar=exclude,
        counts=_mass(weights.double()),
        weights=weights.double(),
    )
    again = torch.repeat_interleave(torch.arange(7), weights)
    expected = LOSSES[mode](rows[again], MASKS[again], prototypes, queue, 0.5, exclude_similar=exclude)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, rows)[0] for loss in (found, expected)))


@pytest.mark.parametrize("mode", LOSSES)
def test_parts_add_up_to_the_whole(mode: str) -> None:
    weights = torch.rand(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = _unit(7, 1), (_unit(3, 2), _unit(5, 3), 0.5)
    whole = LOSSES[mode](rows, MASKS, *columns, counts=_mass(weights), weights=weights)
    parts = [
        LOSSES[mode](rows[part], MASKS[part], *columns, counts=_mass(weights), weights=weights[part])
        for part in (slice(0, 3), slice(3, 7))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_the_prototype_is_the_weighted_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(1, 4, 2, 3, generator=generator), dim=1)
    masks = torch.tensor([[[0, 0, -1], [0, 1, 1]]])
    confidence = torch.tensor([[[0.2, 1.0, 0.9], [0.5, 0.0, 0.0]]])
    found, is_present = mask_prototypes(embeddings, masks, torch.tensor([0, 0]), confidence)
    total = 0.2 * embeddings[0, :, 0, 0] + embeddings[0, :, 0, 1] + 0.5 * embeddings[0, :, 1, 0]
    torch.testing.assert_close(found[0], F.normalize(total, dim=0))
    assert is_present.tolist() == [True, False]


def _views() -> tuple[tuple[torch.Tensor, ...], torch.Tensor, Confidence]:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 2, 4, 3, 4, generator=generator)
    masks = torch.zeros(2, 2, 6, 8, dtype=torch.int64)
    masks[:, :, 1:5, 1:6] = 1
    masks[:, 1, 4:, 5:] = 2
    queue = F.normalize(torch.randn(5, 4, generator=generator), dim=1)
    query_sure, key_sure = torch.rand(2, 2, 6, 8, generator=generator)
    query_sure[0, 3] = 0.0
    return (query, masks[0], key, masks[1]), queue, Confidence(query_sure, key_sure)


@pytest.mark.parametrize("mode", LOSSES)
@pytest.mark.parametrize("resolution", ["grid", "full"])
@pytest.mark.parametrize("has_local", [False, True])
def test_sure_of_everything_is_the_loss_without(mode: str, resolution: str, has_local: bool) -> None:
    views, queue, confidence = _views()
    settings = ObjectiveSettings(mode=mode, resolution=resolution)
    ones = torch.ones_like(confidence.query)
    local = (
        [LocalPixels(views[2][None], views[1][None], sure) for sure in (None, ones[None])] if has_local else [None] * 2
    )
    without = contrast_views(*views, queue, settings, None, local[0])
    found = contrast_views(*views, queue, settings, None, local[1], Confidence(ones, ones))
    torch.testing.assert_close(found.loss, without.loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.prototypes, without.prototypes)


@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_the_loss_by_a_slow_loop(resolution: str) -> None:
    views, queue, confidence = _views()
    query, query_masks, key, key_masks = views
    settings = ObjectiveSettings(mode="formula", resolution=resolution)
    found = contrast_views(*views, queue, settings, None, None, confidence)
    size = (6, 8) if resolution == "full" else (3, 4)
    step = 1 if resolution == "full" else 2
    maps = [F.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in (query, key)]
    sums = {}
    for image in range(2):
        for row in range(6):
            for column in range(8):
                number = (image, int(key_masks[image, row, column]))
                z = F.normalize(maps[1][image, :, row // step, column // step], dim=0)
                sums[number] = sums.get(number, 0) + confidence.key[image, row, column] * z
    total, mass = 0.0, 0.0
    for image in range(2):
        for row in range(size[0]):
            for column in range(size[1]):
                place = (image, row * step + step // 2, column * step + step // 2)  # the pixel that stands for the cell
                if query_masks[place] == 0:
                    continue
                z = F.normalize(maps[0][image, :, row, column], dim=0)
                positive = torch.exp(z @ F.normalize(sums[image, int(query_masks[place])], dim=0) / 0.5)
                loss = -torch.log(positive / (positive + torch.exp(queue @ z / 0.5).sum()))
                total, mass = total + confidence.query[place] * loss, mass + confidence.query[place]
    torch.testing.assert_close(found.loss, total / mass, rtol=1e-5, atol=1e-6)


def test_what_no_pixel_is_sure_of_takes_no_part() -> None:
    """In the key view it has no prototype, in the query view no rows."""
    views, queue, confidence = _views()
    settings = ObjectiveSettings()
    key_sure = torch.where(views[3] == 2, 0.0, confidence.key)
    without = torch.where(views[3] == 2, 0, views[3])
    found = contrast_views(*views, queue, settings, None, None, confidence._replace(key=key_sure))
    expected = contrast_views(*views[:3], without, queue, settings, None, None, confidence)
    torch.testing.assert_close(found.prototypes, expected.prototypes)
    torch.testing.assert_close(found.loss, expected.loss)
    nothing = dataclasses.replace(settings, mode="formula")
    none = contrast_views(*views, queue, nothing, None, None, confidence._replace(query=torch.zeros(2, 6, 8)))
    assert (float(none.loss), none.num_rows) == (0.0, 0)
