"""Two-way transformer and mask decoder against the package segment-anything."""

import pytest
import torch
from segment_anything.modeling import Sam

from densessl.errors import InputError
from densessl.promptable.mask_decoder import MaskOutputs
from densessl.promptable.promptable_model import PromptableModel
from densessl.promptable.two_way_transformer import TwoWayTransformer


def embedded(num_images: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(num_images, 256, 16, 16, generator=generator)
    return image, torch.randn(3, 4, 256, generator=generator), torch.randn(3, 256, 16, 16, generator=generator)


@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize(("outputs", "is_multiple"), [("multiple", True), ("single", False)])
def test_masks_and_their_iou_are_the_published_ones(
    published: Sam, model: PromptableModel, has_mask: bool, outputs: MaskOutputs, is_multiple: bool
) -> None:
    image, sparse, dense = embedded()
    positions = published.prompt_encoder.get_dense_pe()
    no_mask = model.prompt_encoder.embed_no_mask()
    with torch.no_grad():
        given = dense if has_mask else no_mask.expand(3, -1, 16, 16)
        masks, iou = published.mask_decoder(image, positions, sparse, given, is_multiple)
        found = model.mask_decoder(image, positions, sparse, dense if has_mask else no_mask, outputs)
    torch.testing.assert_close(found.logits, masks, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.predicted_iou, iou, rtol=1e-5, atol=1e-5)


def test_all_masks_are_the_single_one_and_the_three(model: PromptableModel) -> None:
    image, sparse, dense = embedded()
    positions = model.image_positions(16, 16)
    with torch.no_grad():
        every = model.mask_decoder(image, positions, sparse, dense, "all")
        parts = [model.mask_decoder(image, positions, sparse, dense, kind) for kind in ("single", "multiple")]
    torch.testing.assert_close(every.logits, torch.cat([part.logits for part in parts], dim=1))
    torch.testing.assert_close(every.predicted_iou, torch.cat([part.predicted_iou for part in parts], dim=1))


def test_a_shared_image_gives_what_its_copies_give(model: PromptableModel) -> None:
    image, sparse, _ = embedded()
    positions, no_mask = model.image_positions(16, 16), model.prompt_encoder.embed_no_mask()
    with torch.no_grad():
        shared = model.mask_decoder(image, positions, sparse, no_mask)
        copied = model.mask_decoder(image.expand(3, -1, -1, -1), positions, sparse, no_mask)
    torch.testing.assert_close(shared.logits, copied.logits, rtol=1e-5, atol=1e-5)


def test_one_image_for_each_prompt_is_one_call_for_each(published: Sam, model: PromptableModel) -> None:
    images, sparse, dense = embedded(num_images=3)
    positions = published.prompt_encoder.get_dense_pe()
    with torch.no_grad():
        found = model.mask_decoder(images, positions, sparse, dense, "multiple")
        for index in range(3):
            one = slice(index, index + 1)
            masks, _ = published.mask_decoder(images[one], positions, sparse[one], dense[one], True)
            torch.testing.assert_close(found.logits[one], masks, rtol=1e-5, atol=1e-5)


def test_heads_must_divide_half_the_width() -> None:
    with pytest.raises(InputError, match="dim 24 cannot have num_heads 8; dim must be a multiple of 16"):
        TwoWayTransformer(24, 2, 8, 32)
