"""Measures of predicted masks, their order and their choice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything.utils.amg import calculate_stability_score

from densessl.promptable import predicted_masks
from densessl.promptable.framing import Frame
from densessl.promptable.predicted_masks import PredictedMasks, Selection, measure_masks, select_masks, stability_score

FRAME = Frame((30, 20), (64, 43), (64, 64))


def measured() -> PredictedMasks:
    logits = 3 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits += torch.tensor([-1.0, 2.0, 0.0])[:, None, None]  # areas: small, large, middle
    return measure_masks(logits, torch.tensor([[0.2, 0.9, 0.5], [0.8, 0.1, 0.8]]), range(1, 4), FRAME, 3)


def test_stability_is_the_published_score() -> None:
    logits = 2 * torch.randn(3, 5, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stability_score(logits), calculate_stability_score(logits, 0.0, 1.0))
    assert stability_score(torch.full((1, 4, 4), -5.0)).tolist() == [0]  # published: 0 / 0
    assert stability_score(torch.tensor([[[2.0, 0.5, -0.5, -2.0]]])).item() == pytest.approx(1 / 3)


def test_masks_are_ranked_by_predicted_iou() -> None:
    found = measured()
    assert found.output.tolist() == [[2, 3, 1], [1, 3, 2]]
    np.testing.assert_allclose(found.predicted_iou, [[0.9, 0.5, 0.2], [0.8, 0.8, 0.1]])
    assert found.masks.shape == (2, 3, 30, 20)
    assert found.area_px.tolist() == found.masks.sum((2, 3)).tolist()


@pytest.mark.parametrize(
    ("selection", "outputs"), [("best", [2, 1]), ("whole", [2, 2]), ("part", [3, 3]), ("subpart", [1, 1])]
)
def test_one_mask_is_chosen(selection: Selection, outputs: list[int]) -> None:
    chosen = select_masks(measured(), selection)
    assert chosen.output[:, 0].tolist() == outputs
    assert chosen.masks.shape == (2, 1, 30, 20)
    assert chosen.area_px.tolist() == chosen.masks.sum((2, 3)).tolist()


@pytest.mark.parametrize(
    ("areas", "whole", "part", "subpart"),
    [([9, 4, 0], 9, 9, 4), ([0, 0, 5], 5, 5, 5), ([0, 0, 0], 0, 0, 0), ([3, 1, 2], 3, 2, 1)],
)
def test_an_empty_mask_is_no_part(areas: list[int], whole: int, part: int, subpart: int) -> None:
    found = measured()
    found = replace(found, area_px=np.array([areas, areas[::-1]]))
    for selection, area in (("whole", whole), ("part", part), ("subpart", subpart)):
        assert select_masks(found, selection).area_px.tolist() == [[area], [area]]  # type: ignore[arg-type]


def test_measuring_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured()
    monkeypatch.setattr(predicted_masks, "_MAX_VALUES", 1)
    assert np.array_equal(measured().masks, whole.masks)
    assert np.array_equal(measured().stability, whole.stability)
