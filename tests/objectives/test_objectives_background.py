"""Backgrounds as negatives: a slow loop, images without any, parts of a batch, and the memory bank left alone."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from densessl.objectives.key_prototypes import background_prototypes
from densessl.objectives.mask_contrast import Confidence, contrast_views
from densessl.objectives.settings import ObjectiveSettings
from densessl.objectives.whole_batch import WholeBatch

SETTINGS = ObjectiveSettings(background="negatives")


def _views() -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Three images; the last key view has no background."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 3, 4, 3, 4, generator=generator)
    masks = torch.zeros(2, 3, 6, 8, dtype=torch.int64)
    masks[:, :, 1:5, 1:6] = 1
    masks[1, 2] = 1
    queue = F.normalize(torch.randn(5, 4, generator=generator), dim=1)
    return (query.requires_grad_(), masks[0], key, masks[1]), queue


@pytest.mark.parametrize("resolution", ["grid", "full"])
@pytest.mark.parametrize("has_confidence", [False, True])
def test_a_background_is_the_mean_of_its_pixels(resolution: str, has_confidence: bool) -> None:
    (_, _, key, masks), _ = _views()
    confidence = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(1)) if has_confidence else None
    found = background_prototypes(key, masks, resolution, confidence)
    maps, step = (key, 2) if resolution == "grid" else (F.interpolate(key, size=(6, 8), mode="bilinear"), 1)
    expected = []
    for image in range(2):
        total = torch.zeros(4)
        for row in range(6):
            for column in range(8):
                if masks[image, row, column] == 0:
                    weight = 1.0 if confidence is None else confidence[image, row, column]
                    total += weight * F.normalize(maps[image, :, row // step, column // step], dim=0)
        expected.append(F.normalize(total, dim=0))
    torch.testing.assert_close(found, torch.stack(expected))  # the third image has none


@pytest.mark.parametrize("mode", ["reference", "formula"])
@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_they_are_negatives_like_those_of_the_bank(mode: str, resolution: str) -> None:
    views, queue = _views()
    settings = dataclasses.replace(SETTINGS, mode=mode, resolution=resolution, exclude_similar=0.3)
    backgrounds = background_prototypes(views[2], views[3], resolution)
    assert len(backgrounds) == 2
    term = contrast_views(*views, queue, settings)
    without = dataclasses.replace(settings, background="none")
    expected = contrast_views(*views, torch.cat([queue, backgrounds]), without)
    for name in ("loss", "prototypes", "positive_similarity", "negative_similarity"):
        torch.testing.assert_close(getattr(term, name), getattr(expected, name))
    assert term.prototypes.shape == (3, 4)  # what the memory bank receives
    plain = contrast_views(*views, queue, without)
    torch.testing.assert_close(term.false_negative_share, plain.false_negative_share)
    (gradient,) = torch.autograd.grad(term.loss, views[0])
    assert torch.count_nonzero(gradient) > 0


def test_those_of_all_parts_are_negatives_of_the_whole_batch() -> None:
    views, queue = _views()
    other = F.normalize(torch.randn(2, 4, generator=torch.Generator().manual_seed(5)), dim=1)
    calls: list[int] = []

    def gather(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        calls.append(len(rows))
        return (rows, 0) if len(calls) == 1 else (torch.cat([rows, other]), 0)

    term = contrast_views(*views, queue, SETTINGS, WholeBatch(gather, lambda value: value))
    backgrounds = background_prototypes(views[2], views[3], "grid")
    without = dataclasses.replace(SETTINGS, background="none")
    expected = contrast_views(*views, torch.cat([queue, backgrounds, other]), without)
    assert calls == [3, 2]
    torch.testing.assert_close(term.loss, expected.loss)


def test_confidence_weighs_the_background_too() -> None:
    views, queue = _views()
    sure = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    confidence = Confidence(sure[0], sure[1])
    term = contrast_views(*views, queue, SETTINGS, None, None, confidence)
    backgrounds = background_prototypes(views[2], views[3], "grid", sure[1])
    without = dataclasses.replace(SETTINGS, background="none")
    expected = contrast_views(*views, torch.cat([queue, backgrounds]), without, None, None, confidence)
    torch.testing.assert_close(term.loss, expected.loss)
