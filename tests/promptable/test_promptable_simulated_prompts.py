"""Simulated prompts lie where they should, as often as they should, and repeat with their seed."""

import cv2
import numpy as np
import pytest
import torch

from densessl.promptable.simulated_prompts import (
    BoxNoise,
    ClickPlaces,
    SimulatedPrompts,
    add_corrections,
    draw_clicks,
    draw_rounds,
    first_prompts,
    noisy_boxes,
)

CELL = 4
ANYWHERE, MIDDLE = ClickPlaces(CELL), ClickPlaces(CELL, 1.0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _region(num: int = 1) -> torch.Tensor:
    region = torch.zeros(num, 3, 5, dtype=torch.bool)
    region[:, 1, 2] = region[:, 1, 3] = region[:, 2, 0] = True
    return region


def test_every_pixel_of_a_region_is_as_likely() -> None:
    num = 6000
    points, cells = draw_clicks([_region(num)], ANYWHERE, _generator())
    x, y = points.long().unbind(1)
    assert _region()[0, y // CELL, x // CELL].all()
    assert torch.equal(cells, y // CELL * 5 + x // CELL)
    counts = torch.bincount(y * 20 + x, minlength=240)
    counts = counts[counts > 0]
    assert len(counts) == 3 * CELL * CELL
    expected = num / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 80  # chi-square of 47 degrees of freedom, 0.2 %


def test_an_empty_region_has_no_point() -> None:
    for places in (ANYWHERE, MIDDLE):
        points, cells = draw_clicks([torch.zeros(2, 3, 5, dtype=torch.bool)], places, _generator())
        assert cells.tolist() == [-1, -1]
        assert points.tolist() == [[0, 0], [0, 0]]


def test_clicks_in_the_middle_are_where_the_user_of_the_evaluation_clicks() -> None:
    missed, surplus = torch.zeros(2, 3, 20, 30, dtype=torch.bool)
    missed[0, 2:9, 3:14] = True  # 7 cells wide; its middle is the fourth
    missed[0, 12, 2:28] = True
    surplus[1, 0:7, 0:7] = True  # the grid's edge counts
    missed[1, 10:15, 10:20] = True
    points, cells = draw_clicks([missed, surplus], MIDDLE, _generator())
    assert (cells // 30).tolist() == [5, 3, -1]
    assert 6 <= int(cells[0] % 30) <= 10
    assert int(cells[1]) == 3 * 30 + 3
    assert torch.equal((points[:2] // CELL).long(), torch.stack([cells % 30, cells // 30], 1)[:2])
    half = draw_clicks([missed[:1].expand(1000, -1, -1)], ClickPlaces(CELL, 0.5), _generator())[1]
    assert 450 < int((half == cells[0]).sum()) < 570  # one in 103 of the others lies there too
    region = torch.from_numpy(np.random.default_rng(0).random((8, 40, 40)) < 0.9)
    for mask, cell in zip(region, draw_clicks([region], MIDDLE, _generator())[1], strict=True):
        exact = cv2.distanceTransform(np.pad(mask.numpy().astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        assert exact[1:-1, 1:-1].flat[int(cell)] >= 0.97 * exact.max()


def test_box_noise_has_its_deviation_and_its_limit() -> None:
    num = 4000
    boxes, extents = torch.tensor([[500.0, 400.0, 600.0, 440.0]]).repeat(num, 1), torch.full((num, 2), 1000.0)
    moved = noisy_boxes(boxes, extents, BoxNoise(0.1, 20.0), _generator()) - boxes
    assert moved[:, [0, 2]].std().item() == pytest.approx(10, rel=0.06)  # cut off at two deviations
    assert moved[:, [1, 3]].std().item() == pytest.approx(4, rel=0.05)
    assert moved.abs().max() == 20
    assert moved.mean().abs() < 0.3
    assert torch.equal(noisy_boxes(boxes, extents, BoxNoise(0.0, 20.0), _generator()), boxes)


def test_noisy_boxes_stay_in_the_image_and_are_never_empty() -> None:
    boxes, extents = torch.tensor([[0.0, 0.0, 3.0, 60.0]]).repeat(500, 1), torch.tensor([[50.0, 60.0]]).repeat(500, 1)
    moved = noisy_boxes(boxes, extents, BoxNoise(2.0, 100.0), _generator())
    assert (moved[:, :2] >= 0).all()
    assert (moved[:, 2:] <= extents).all()
    assert (moved[:, 2:] - moved[:, :2] > 1 - 1e-5).all()


def test_first_prompts_are_clicks_or_boxes_in_two_tokens() -> None:
    num = 1000
    boxes, extents = torch.tensor([[0.0, 4.0, 16.0, 12.0]]).repeat(num, 1), torch.tensor([[20.0, 12.0]]).repeat(num, 1)
    drawn = first_prompts(_region(num), boxes, extents, ANYWHERE, 0.5, BoxNoise(0.0, 0.0), _generator())
    is_click = drawn.is_click
    assert 430 < int(is_click.sum()) < 570
    assert (drawn.labels[is_click] == torch.tensor([1, -1])).all()
    assert (drawn.labels[~is_click] == torch.tensor([2, 3])).all()
    assert torch.equal(drawn.points[~is_click].flatten(1), boxes[~is_click])
    cells = (drawn.points[is_click][:, 0] / CELL).long()
    assert _region()[0, cells[:, 1], cells[:, 0]].all()
    for share, wanted in ((0.0, 0), (1.0, num)):
        again = first_prompts(_region(num), boxes, extents, ANYWHERE, share, BoxNoise(), _generator())
        assert int((~again.is_click).sum()) == wanted


def test_corrections_go_to_the_error_with_its_label() -> None:
    target = torch.zeros(3, 4, 4, dtype=torch.bool)
    target[:, :2] = True
    masks = target.clone()
    masks[0, 1, 1] = False  # missing
    masks[1, 3, 2] = True  # too much
    is_image = torch.ones_like(target)
    before = SimulatedPrompts(torch.zeros(3, 2, 2), torch.tensor([[1, -1]]).repeat(3, 1))
    after = add_corrections(before, masks, target, is_image, ANYWHERE, _generator())
    assert after.points.shape == (3, 3, 2)
    assert after.labels[:, 2].tolist() == [1, 0, -1]
    assert (after.points[:2, 2] // CELL).tolist() == [[1, 1], [2, 3]]
    is_image[1, 3] = False  # errors in the padding are none that a user sees
    assert add_corrections(before, masks, target, is_image, ANYWHERE, _generator()).labels[:, 2].tolist() == [1, -1, -1]


def test_rounds_are_those_of_the_paper() -> None:
    """Eight with a new point, one without among them, and one at the end."""
    places = set()
    for seed in range(200):
        rounds = draw_rounds(8, 2, _generator(seed))
        assert len(rounds) == 10
        assert sum(rounds) == 8
        assert not rounds[-1]
        places.add(rounds.index(False))
    assert places == set(range(9))
    assert draw_rounds(2, 1, _generator()) == (True, True, False)
    assert draw_rounds(2, 0, _generator()) == (True, True)
    assert draw_rounds(0, 1, _generator()) == (False,)


def test_the_same_seed_draws_the_same() -> None:
    boxes, extents = torch.tensor([[0.0, 4.0, 16.0, 12.0]]).repeat(5, 1), torch.tensor([[20.0, 12.0]]).repeat(5, 1)
    first, second = (
        first_prompts(_region(5), boxes, extents, ANYWHERE, 0.5, BoxNoise(), _generator(3)) for _ in range(2)
    )
    assert torch.equal(first.points, second.points)
    assert torch.equal(first.labels, second.labels)
