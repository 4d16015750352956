"""The prompt encoder against the package segment-anything."""

import pytest
import torch
from segment_anything.modeling import Sam

from densessl.promptable.prompt_encoder import point_prompts
from densessl.promptable.promptable_model import PromptableModel

NUM_PROMPTS = 5


def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    points = 256 * torch.rand(NUM_PROMPTS, 3, 2, generator=generator)
    labels = torch.tensor([[0, 1, -1]]).repeat(NUM_PROMPTS, 1)
    boxes = 256 * torch.rand(NUM_PROMPTS, 4, generator=generator)
    return points, labels, boxes, torch.randn(NUM_PROMPTS, 1, 64, 64, generator=generator)


@pytest.mark.parametrize("has_points", [True, False])
@pytest.mark.parametrize("has_boxes", [True, False])
def test_points_and_boxes_are_embedded_as_published(
    published: Sam, model: PromptableModel, has_points: bool, has_boxes: bool
) -> None:
    points, labels, boxes, _ = drawn()
    given_boxes = boxes if has_boxes else None
    if not (has_points or has_boxes):
        return
    with torch.no_grad():
        wanted, dense = published.prompt_encoder((points, labels) if has_points else None, given_boxes, None)
        listed = point_prompts(points if has_points else None, labels if has_points else None, given_boxes)
        found = model.prompt_encoder.embed_points(*listed)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        no_mask = model.prompt_encoder.embed_no_mask().expand(NUM_PROMPTS, -1, 16, 16)
        assert torch.equal(no_mask, dense)


def test_masks_are_embedded_as_published(published: Sam, model: PromptableModel) -> None:
    masks = drawn()[3]
    with torch.no_grad():
        wanted = published.prompt_encoder(None, None, masks)[1]
        torch.testing.assert_close(model.prompt_encoder.embed_masks(masks), wanted, rtol=1e-5, atol=1e-5)


def test_cells_have_the_published_positions(published: Sam, model: PromptableModel) -> None:
    wanted = published.prompt_encoder.get_dense_pe()
    positions = model.image_positions(16, 16)
    torch.testing.assert_close(positions, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(model.image_positions(16, 9), positions[..., :9])  # of a frame without padding at the right


def test_mixed_precision_leaves_positions_in_float32(model: PromptableModel) -> None:
    points, labels, *_ = drawn()
    with torch.no_grad():
        wanted = model.prompt_encoder.embed_points(points, labels)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model.prompt_encoder.embed_points(points, labels), wanted)


def test_nothing_to_list_is_refused() -> None:
    with pytest.raises(ValueError, match="neither points with labels nor boxes"):
        point_prompts(None, None, None)
