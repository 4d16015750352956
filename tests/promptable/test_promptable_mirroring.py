"""An image and its mirror image: where prompts and masks go, and that both give the same."""

import numpy as np
import pytest
import torch
from PIL import Image

from densessl.promptable.framing import Frame, frame_image, restore_logits
from densessl.promptable.mirroring import mirror_image, mirror_masks, mirror_prompts
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_model import PromptableModel, PromptBatch
from densessl.promptable.prompts import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, TOP_LEFT

PORTRAIT = Frame((32, 20), (32, 20), (32, 32))


def test_clicks_lie_where_their_pixels_went_and_boxes_where_their_edges_did() -> None:
    points = torch.tensor([[[3.0, 4.0], [1.0, 2.0], [7.0, 9.0]], [[0.0, 5.0], [0.0, 2.0], [20.0, 9.0]]])
    labels = torch.tensor([[FOREGROUND, TOP_LEFT, BOTTOM_RIGHT], [BACKGROUND, TOP_LEFT, BOTTOM_RIGHT]])
    turned = mirror_prompts(PromptBatch(points, labels), PORTRAIT)
    expected = [[[16.0, 4.0], [13.0, 2.0], [19.0, 9.0]], [[19.0, 5.0], [0.0, 2.0], [20.0, 9.0]]]
    assert turned.points.tolist() == expected
    assert points[0, 0].tolist() == [3, 4]  # as they were


def test_a_filling_stays_one() -> None:
    batch = PromptBatch(torch.zeros(1, 2, 2), torch.tensor([[FOREGROUND, NOT_A_POINT]]))
    assert mirror_prompts(batch, PORTRAIT).labels.tolist() == [[FOREGROUND, NOT_A_POINT]]
    assert mirror_prompts(PromptBatch(torch.zeros(1, 0, 2), torch.zeros(1, 0).long()), PORTRAIT).points.shape[1] == 0


def test_masks_are_turned_within_the_image() -> None:
    masks = torch.arange(8.0)[None].repeat(8, 1)  # 4 pixels a cell; the image has five cells
    assert mirror_masks(masks, PORTRAIT)[0, :5].tolist() == [4, 3, 2, 1, 0]
    between = mirror_masks(masks, Frame((32, 18), (32, 18), (32, 32)))  # four and a half
    assert between[0, :4].tolist() == [3.5, 2.5, 1.5, 0.5]
    prompts = PromptBatch(torch.zeros(1, 0, 2), torch.zeros(1, 0).long(), masks[None, None])
    turned = mirror_prompts(prompts, PORTRAIT).masks
    assert turned is not None
    assert turned[0, 0, 0, :5].tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (101, 37), (30, 30)])
def test_the_frame_of_a_mirror_image_is_the_mirror_image_in_the_frame(
    model: PromptableModel, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    framed, frame = frame_image(image, model.settings)
    of_mirrored, _ = frame_image(image[:, ::-1].copy(), model.settings)
    np.testing.assert_allclose(mirror_image(framed, frame), of_mirrored, atol=0.06)  # three grey levels
    logits = torch.randn(1, 1, *(4 * side for side in frame.grid), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(logits, 9, stride=1, padding=4)
    turned = restore_logits(mirror_masks(smooth, frame), frame)
    assert (turned.flip(-1) - restore_logits(smooth, frame)).abs().mean() < 0.2 * smooth.abs().mean()


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (64, 64), (128, 50)])
def test_an_image_and_its_mirror_image_have_mirrored_masks(model: PromptableModel, size: tuple[int, int]) -> None:
    height, width = size
    drawn = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(drawn).resize((width, height), Image.Resampling.BICUBIC))
    predictor = Predictor(model, "cpu", "fp32", mirrored=True)
    point, box = [width // 4, height // 3], [3, 2, width // 2, height // 2]
    found = predictor.set_image(image).predict([point], [1], box)
    predictor.set_image(image[:, ::-1].copy())
    turned = predictor.predict([[width - 1 - point[0], point[1]]], [1], [width - box[2], 2, width - 3, height // 2])
    assert (turned.masks[0] == found.masks[0, ..., ::-1]).mean() > 0.97
    np.testing.assert_allclose(turned.predicted_iou, found.predicted_iou, atol=2e-3)
    alone = Predictor(model, "cpu", "fp32").set_image(image).predict([point], [1], box)
    assert abs(alone.low_resolution - found.low_resolution).max() > 1e-3
