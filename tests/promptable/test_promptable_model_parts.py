"""The parts of a model as exporters take them: their forms, the inputs drawn for them, and what they compute."""

import pytest
import torch

from densessl.promptable.model_parts import Axis, ModelPart, TensorForm, decoder_part, encoder_part
from densessl.promptable.promptable_model import PromptableModel, PromptBatch, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings


@pytest.fixture(scope="module")
def fine_model() -> PromptableModel:
    torch.manual_seed(0)
    settings = PromptableSettings("resnet10t", 96, dim=32, fine_features=True, decoder_heads=2, decoder_mlp_dim=32)
    return build_promptable_model(settings).eval()


def test_axes_are_multiples_of_named_lengths() -> None:
    form = TensorForm("masks", "float32", (Axis("num_prompts"), 1, Axis("rows", 4), Axis("columns", 4)))
    assert form.shape({"num_prompts": 2, "rows": 3, "columns": 5}) == (2, 1, 12, 20)
    assert form.described()["shape"] == ["num_prompts", 1, "4*rows", "4*columns"]


@pytest.mark.parametrize("sizes", ["any", "square"])
def test_parts_together_are_the_model(fine_model: PromptableModel, sizes: str) -> None:
    encoder, decoder = encoder_part(fine_model, sizes), decoder_part(fine_model, sizes)  # type: ignore[arg-type]
    (images,) = encoder.draw(encoder.compared[0])
    _, points, labels, masks, has_mask, image = decoder.draw(decoder.compared[0])
    assert images.shape == (1, 3, 96, 96)
    with torch.no_grad():
        found = decoder.module(encoder.module(images), points, labels, masks, has_mask, image)
        expected = fine_model(images, PromptBatch(points, labels, masks, has_mask))
    torch.testing.assert_close(found, tuple(expected))


def test_each_prompt_is_for_its_image(fine_model: PromptableModel) -> None:
    part = decoder_part(fine_model)
    embedding, *prompts, image = part.draw({"batch": 2, "num_prompts": 5, "num_points": 2, "rows": 6, "columns": 4})
    assert image.tolist() == [1, 0, 1, 0, 1]
    with torch.no_grad():
        together, _ = part.module(embedding, *prompts, image)
        for number, wanted in enumerate(together):
            one = [prompt[number : number + 1] for prompt in prompts]
            alone, _ = part.module(embedding[image[number]][None], *one, torch.zeros(1, dtype=torch.int64))
            torch.testing.assert_close(alone[0], wanted, rtol=1e-4, atol=1e-5)


def test_parts_are_compared_with_one_image_and_with_two(fine_model: PromptableModel) -> None:
    for part in (encoder_part(fine_model), decoder_part(fine_model), decoder_part(fine_model, "square")):
        assert {1, 2} <= {sizes["batch"] for sizes in part.compared}


@pytest.mark.parametrize("sizes", ["any", "square"])
@pytest.mark.parametrize("part_of", [encoder_part, decoder_part])
def test_outputs_have_the_forms_that_are_told(fine_model: PromptableModel, part_of: object, sizes: str) -> None:
    part: ModelPart = part_of(fine_model, sizes)  # type: ignore[operator]
    for compared in part.compared:
        inputs = part.draw(compared)
        with torch.no_grad():
            found = part.module(*inputs)
        outputs = (found,) if isinstance(found, torch.Tensor) else found
        for forms, values in ((part.inputs, inputs), (part.outputs, outputs)):
            for form, value in zip(forms, values, strict=True):
                assert tuple(value.shape) == form.shape(compared)
                assert str(value.dtype) == f"torch.{form.dtype}"


def test_square_parts_take_one_size(fine_model: PromptableModel) -> None:
    (images,) = encoder_part(fine_model, "square").inputs
    assert images.axes == (Axis("batch"), 3, 96, 96)
    assert decoder_part(fine_model, "square").outputs[0].axes == (Axis("num_prompts"), 4, 24, 24)


def test_drawn_prompts_have_every_kind_and_some_masks(fine_model: PromptableModel) -> None:
    part = decoder_part(fine_model)
    _, points, labels, _, has_mask, _ = part.draw(
        {"batch": 1, "num_prompts": 20, "num_points": 4, "rows": 6, "columns": 6}
    )
    assert set(labels.flatten().tolist()) == {-1, 0, 1, 2, 3}
    assert has_mask.any()
    assert not has_mask.all()
    assert 48 < points.max() < 96
    assert torch.equal(part.draw(part.traced, 3)[1], part.draw(part.traced, 3)[1])
    assert not torch.equal(part.draw(part.traced, 3)[1], part.draw(part.traced, 4)[1])
