"""The mask that a prompt fits, against a loop over all candidates written from its definition."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from densessl.promptable.fitting_masks import THRESHOLDS, expected_iou, fitting_masks, keep_fitting, prompt_fit
from densessl.promptable.framing import Frame
from densessl.promptable.prompts import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, TOP_LEFT, check_prompts
from densessl.structures import MaskArray

FRAME = Frame((64, 64), (64, 64), (64, 64))
CLICK = torch.tensor([[FOREGROUND, NOT_A_POINT]])


def square(top: int, left: int, side: int, size: int = 64) -> MaskArray:
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def clicked(x: float, y: float) -> torch.Tensor:
    return torch.tensor([[[x, y], [0.0, 0.0]]])


def fit(mask: MaskArray, points: list[tuple[int, int]], kinds: list[int]) -> float:
    return prompt_fit(mask, np.array(points, dtype=np.float32), np.array(kinds))


def logits_of(*masks: MaskArray, sure: float = 6.0) -> torch.Tensor:
    """Logits on the decoder's grid, of masks whose outlines lie on it."""
    return torch.stack([torch.from_numpy(mask[::4, ::4].copy()) for mask in masks])[None] * 2 * sure - sure


def test_a_click_fits_the_mask_in_whose_middle_it_lies() -> None:
    mask = square(10, 20, 21)
    assert fit(mask, [(30, 20)], [FOREGROUND]) == 1
    assert 0 < fit(mask, [(21, 20)], [FOREGROUND]) < 0.3
    assert fit(mask, [(21, 20), (30, 20), (0, 0)], [FOREGROUND, FOREGROUND, NOT_A_POINT]) == 1  # the deepest counts
    assert fit(mask, [(5, 5)], [FOREGROUND]) == 0
    assert fit(mask, [(30, 20), (22, 12)], [FOREGROUND, BACKGROUND]) == 0
    assert fit(mask, [(30, 20), (2, 2)], [FOREGROUND, BACKGROUND]) == 1
    assert fit(np.zeros((9, 9), dtype=np.bool_), [(3, 3)], [FOREGROUND]) == 0


def test_a_click_in_the_smaller_part_of_a_mask_fits_less() -> None:
    mask = square(2, 2, 10) | square(20, 20, 40)
    assert fit(mask, [(40, 40)], [FOREGROUND]) > 0.95
    assert fit(mask, [(7, 7)], [FOREGROUND]) == pytest.approx(5 / 20, abs=0.05)


def test_the_images_edge_is_an_edge() -> None:
    assert fit(square(0, 0, 20), [(0, 0)], [FOREGROUND]) == pytest.approx(0.1, abs=0.02)
    assert fit(np.ones((9, 9), dtype=np.bool_), [(4, 4)], [FOREGROUND]) == 1


def test_a_box_fits_the_mask_that_fills_it() -> None:
    corners = [TOP_LEFT, BOTTOM_RIGHT]
    assert fit(square(10, 20, 20), [(20, 10), (40, 30)], corners) == 1
    assert fit(square(10, 20, 20), [(20, 10), (40, 50)], corners) == pytest.approx(0.5)
    assert fit(square(10, 20, 20), [(50, 50), (60, 60)], corners) == 0
    with_click = fit(square(10, 20, 20), [(21, 20), (20, 10), (40, 50)], [FOREGROUND, *corners])
    assert with_click == pytest.approx(0.5 * fit(square(10, 20, 20), [(21, 20)], [FOREGROUND]))


def test_expected_iou_is_that_of_probabilities() -> None:
    probability = np.array([[0.9, 0.6, 0.2]], dtype=np.float32)
    assert expected_iou(probability, np.array([[True, True, False]])) == pytest.approx(1.5 / (2 + 0.2))
    assert expected_iou(probability, np.array([[False, False, False]])) == 0
    assert expected_iou((probability > 0.5).astype(np.float32), probability > 0.5) == 1


def test_the_smaller_of_two_is_taken_where_the_click_is_in_its_middle() -> None:
    small, large = square(8, 8, 16), square(8, 8, 48)
    logits, predicted = logits_of(small, large), torch.tensor([[0.7, 0.8]])
    found = fitting_masks(logits, predicted, range(1, 3), FRAME, clicked(16, 16), CLICK)
    assert found.output.tolist() == [[1]]
    assert found.predicted_iou.tolist() == [[pytest.approx(0.7)]]
    assert (found.masks[0, 0] & small).sum() / (found.masks[0, 0] | small).sum() > 0.9
    assert fitting_masks(logits, predicted, range(1, 3), FRAME, clicked(32, 32), CLICK).output.tolist() == [[2]]


def test_a_mask_grows_over_its_click() -> None:
    sure, unsure = square(8, 8, 16), square(8, 24, 32)
    logits = torch.full((1, 1, 16, 16), -8.0)
    logits[0, 0][torch.from_numpy(unsure[::4, ::4].copy())] = -0.5
    logits[0, 0][torch.from_numpy(sure[::4, ::4].copy())] = 8.0
    found = fitting_masks(logits, torch.tensor([[0.9]]), range(1), FRAME, clicked(38, 24), CLICK)
    assert found.output.tolist() == [[0]]
    both = sure | unsure
    assert (found.masks[0, 0] & both).sum() / (found.masks[0, 0] | both).sum() > 0.9
    in_frame = torch.nn.functional.interpolate(torch.from_numpy(found.low_resolution), (64, 64), mode="bilinear")
    assert np.array_equal(in_frame.numpy()[0, 0] > 0, found.masks[0, 0])  # shifted by the threshold
    inside = fitting_masks(logits, torch.tensor([[0.9]]), range(1), FRAME, clicked(16, 16), CLICK)
    assert (inside.masks[0, 0] & sure).sum() / (inside.masks[0, 0] | sure).sum() > 0.8


def test_without_a_fit_it_is_the_best() -> None:
    logits = logits_of(square(8, 8, 16), square(32, 32, 16))
    found = fitting_masks(logits, torch.tensor([[0.3, 0.6]]), range(1, 3), FRAME, clicked(60, 2), CLICK)
    assert found.output.tolist() == [[2]]
    assert np.array_equal(found.low_resolution[0, 0], logits[0, 1].numpy())


def slow(logits: torch.Tensor, predicted: list[float], frame: Frame, click: list[float]) -> tuple[int, float]:
    """Return the mask and the threshold of the highest predicted IoU x (expected IoU x fit)^2."""
    height, width = frame.scaled_size
    scored = []
    for index, mask_logits in enumerate(logits):
        values = torch.nn.functional.interpolate(mask_logits[None, None], frame.padded_size, mode="bilinear")[0, 0]
        values = values[:height, :width].double().numpy()
        probability = 1 / (1 + np.exp(-values))
        for threshold in sorted(THRESHOLDS):
            mask = values > threshold
            x, y = int(click[0] + width / frame.image_size[1] / 2), int(click[1] + height / frame.image_size[0] / 2)
            if not mask[y, x]:
                continue
            expected = probability[mask].sum() / (mask.sum() + probability[~mask].sum())
            depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            scored.append((predicted[index] * (expected * depth[y, x] / depth.max()) ** 2, index, threshold))
    _, index, threshold = max(scored)
    return index, threshold


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_a_loop_over_all(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    frame = Frame((40, 100), (26, 64), (64, 64))
    coarse = 4 * torch.randn(2, 3, 4, 4, generator=generator) + 1
    logits = torch.nn.functional.interpolate(coarse, (16, 16), mode="bicubic")
    predicted = torch.rand(2, 3, generator=generator)
    clicks = torch.tensor([[20.0, 9.0], [47.0, 14.0]])
    logits[:, :, 1:4, 4:12] = logits[:, :, 1:4, 4:12].abs()  # the clicks are within
    points = torch.stack([clicks, torch.zeros(2, 2)], dim=1)
    found = fitting_masks(logits, predicted, range(1, 4), frame, points, CLICK.expand(2, -1))
    for prompt in range(2):
        index, threshold = slow(logits[prompt], predicted[prompt].tolist(), frame, clicks[prompt].tolist())
        assert found.output[prompt, 0] == index + 1
        np.testing.assert_allclose(found.low_resolution[prompt, 0], logits[prompt, index] - threshold, atol=1e-6)
        assert found.masks.shape == (2, 1, 40, 100)


def test_a_click_on_an_enlarged_image_is_in_the_middle_of_its_pixel() -> None:
    frame = Frame((8, 8), (64, 64), (64, 64))
    left, right = square(0, 4, 20), square(0, 24, 40)  # pixel 2 of the image is 16 to 23 of the frame
    logits = logits_of(left, right)
    points = torch.from_numpy(frame.to_frame(np.array([[[2.0, 1.0], [0.0, 0.0]]]))).float()
    found = fitting_masks(logits, torch.tensor([[0.5, 0.9]]), range(1, 3), frame, points, CLICK)
    assert found.output.tolist() == [[1]]


def test_a_fit_counts_where_every_predicted_iou_is_negative() -> None:
    logits = logits_of(square(32, 32, 24), square(8, 8, 16))
    found = fitting_masks(logits, torch.tensor([[-0.05, -0.1]]), range(1, 3), FRAME, clicked(16, 16), CLICK)
    assert found.output.tolist() == [[2]]


def test_several_are_kept_the_best_first() -> None:
    masks = [square(8, 8, 16), square(8, 8, 48), square(40, 40, 16)]
    logits, predicted = logits_of(*masks), torch.tensor([[0.6, 0.8, 0.9]])
    found = fitting_masks(logits, predicted, range(1, 4), FRAME, clicked(16, 16), CLICK, num_kept=3)
    assert found.output.tolist() == [[1, 2, 3]]
    np.testing.assert_allclose(found.predicted_iou, [[0.6, 0.8, 0.9]])
    assert found.area_px.tolist() == found.masks.sum((2, 3)).tolist()
    for mask, kept in zip(masks, found.masks[0], strict=True):
        assert (mask & kept).sum() / (mask | kept).sum() > 0.8


def test_finished_masks_are_chosen_by_fit_and_predicted_iou() -> None:
    masks = [square(8, 8, 16), square(8, 8, 48), square(40, 40, 16)]
    found = fitting_masks(
        logits_of(*masks), torch.tensor([[0.6, 0.8, 0.9]]), range(1, 4), FRAME, clicked(16, 16), CLICK, num_kept=3
    )
    for point, output in (([16, 16], 1), ([32, 32], 2), ([48, 48], 3), ([60, 2], 1)):  # the last is in none
        prompts = check_prompts([point], [1], None, None, FRAME)
        assert keep_fitting(found, prompts).output.tolist() == [[output]]
    assert keep_fitting(found, check_prompts(None, None, [40, 40, 56, 56], None, FRAME)).output.tolist() == [[3]]
    both = check_prompts([[16, 16], [50, 50]], [1, 0], [8, 8, 24, 24], None, FRAME)
    assert keep_fitting(found, both).output.tolist() == [[1]]
