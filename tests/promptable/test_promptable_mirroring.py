"""An image and its mirror image: where prompts lie, and that both give the same."""

import numpy as np
import torch

from densessl.promptable.mirroring import mirror_prompts
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import PromptableModel, PromptBatch
from densessl.promptable.prompts import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, TOP_LEFT


def test_prompts_lie_where_their_pixels_went() -> None:
    points = torch.tensor([[[3.0, 4.0], [1.0, 2.0], [7.0, 9.0]], [[0.0, 5.0], [2.0, 2.0], [9.5, 9.0]]])
    labels = torch.tensor([[FOREGROUND, TOP_LEFT, BOTTOM_RIGHT], [BACKGROUND, TOP_LEFT, BOTTOM_RIGHT]])
    masks = torch.arange(2 * 4.0).reshape(2, 1, 1, 4)
    turned = mirror_prompts(PromptBatch(points, labels, masks), 16)
    expected = [[[12.0, 4.0], [8.0, 2.0], [14.0, 9.0]], [[15.0, 5.0], [5.5, 2.0], [13.0, 9.0]]]
    assert turned.points.tolist() == expected
    assert turned.masks is not None
    assert turned.masks[0, 0, 0].tolist() == [3, 2, 1, 0]
    assert points[0, 0].tolist() == [3, 4]  # as they were


def test_a_filling_stays_one() -> None:
    batch = PromptBatch(torch.zeros(1, 2, 2), torch.tensor([[FOREGROUND, NOT_A_POINT]]))
    assert mirror_prompts(batch, 8).labels.tolist() == [[FOREGROUND, NOT_A_POINT]]
    assert mirror_prompts(PromptBatch(torch.zeros(1, 0, 2), torch.zeros(1, 0).long()), 8).points.shape == (1, 0, 2)


def test_an_image_and_its_mirror_image_have_mirrored_masks(model: PromptableModel) -> None:
    size = model.settings.size_px  # a square, so that there is no padding on one side alone
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    predictor = Predictor(model, "cpu", "fp32", mirrored=True)
    point, box = [size // 4, size // 3], [10, 20, size // 2, size // 2 + 5]
    mask = predictor.set_image(image).predict([point]).low_resolution[0, 0]
    found = predictor.predict([point], [1], box, mask)
    turned_box = [size - 1 - box[2], box[1], size - 1 - box[0], box[3]]
    predictor.set_image(image[:, ::-1].copy())
    turned = predictor.predict([[size - 1 - point[0], point[1]]], [1], turned_box, mask[:, ::-1].copy())
    np.testing.assert_allclose(turned.low_resolution, found.low_resolution[..., ::-1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(turned.predicted_iou, found.predicted_iou, rtol=1e-4, atol=1e-4)
    alone = Predictor(model, "cpu", "fp32").set_image(image).predict([point], [1], box, mask)
    assert abs(alone.low_resolution - found.low_resolution).max() > 1e-3
