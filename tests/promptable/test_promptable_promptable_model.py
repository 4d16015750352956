"""The assembled model: several images and prompts in a batch, gradients, random weights, backbones, settings."""

import pytest
import torch

from densessl.errors import InputError
from densessl.promptable.mask_decoder import DecodedMasks
from densessl.promptable.promptable_model import PromptableModel, PromptBatch, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.tiny_vit import TinyVitShape
from densessl.promptable.vision_transformer import VisionTransformerShape

SMALL_VIT = PromptableSettings(
    "vision_transformer", 64, vision_transformer=VisionTransformerShape(32, 2, 2, (1,), 64, window=3)
)
SMALL_TINY = PromptableSettings(
    "mobile_sam", 64, tiny_vit=TinyVitShape((8, 16, 24, 32), (1, 1, 1, 1), (1, 2, 2, 2), (7, 3, 3, 3))
)
SMALL_BACKBONE = PromptableSettings(
    "mobilenetv2_050", 64, padding="stride", dim=32, decoder_mlp_dim=64, decoder_heads=2
)


def prompts(num: int, grid: tuple[int, int] = (4, 4)) -> PromptBatch:
    generator = torch.Generator().manual_seed(0)
    points = 64 * torch.rand(num, 2, 2, generator=generator)
    masks = torch.randn(num, 1, 4 * grid[0], 4 * grid[1], generator=generator)
    return PromptBatch(points, torch.tensor([[1, -1]]).repeat(num, 1), masks)


@pytest.mark.parametrize("settings", [SMALL_VIT, SMALL_TINY, SMALL_BACKBONE], ids=lambda settings: settings.encoder)
def test_gradients_reach_every_part(settings: PromptableSettings) -> None:
    torch.manual_seed(0)
    model = build_promptable_model(settings)
    images = torch.randn(2, 3, 64, 64)
    batch = prompts(2)._replace(has_mask=torch.tensor([True, False]))
    points = batch.points.requires_grad_()
    logits, iou = model(images, batch._replace(labels=torch.tensor([[1, 0], [2, 3]]), points=points))
    (logits.square().mean() + iou.square().mean()).backward()
    assert points.grad is not None
    assert points.grad.abs().sum() > 0
    without = {name for name, value in model.named_parameters() if value.grad is None or (value.grad == 0).all()}
    zero_at_first = {name for name in without if ".layers.0.blocks.0.conv" in name}  # behind a norm of weight zero
    assert without - zero_at_first == {"prompt_encoder.not_a_point_embed.weight"}


@pytest.mark.parametrize("settings", [SMALL_VIT, SMALL_TINY, SMALL_BACKBONE], ids=lambda settings: settings.encoder)
def test_random_weights_give_the_same_finite_masks_twice(settings: PromptableSettings) -> None:
    torch.manual_seed(0)
    model = build_promptable_model(settings).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first, second = (model(images, prompts(3)) for _ in range(2))
    assert first.logits.shape == (3, 4, 16, 16)
    assert first.predicted_iou.shape == (3, 4)
    assert first.logits.isfinite().all()
    assert first.logits.std() > 0
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.predicted_iou, second.predicted_iou)


def test_each_prompt_sees_its_own_image() -> None:
    torch.manual_seed(0)
    model = build_promptable_model(SMALL_VIT).eval()
    images, batch = torch.randn(2, 3, 64, 64), prompts(3)
    with torch.no_grad():
        together = model(images, batch._replace(image=torch.tensor([1, 0, 1])))
        for index, image in enumerate((1, 0, 1)):
            one = slice(index, index + 1)
            assert batch.masks is not None
            alone = model(
                images[image : image + 1], PromptBatch(batch.points[one], batch.labels[one], batch.masks[one])
            )
            torch.testing.assert_close(together.logits[one], alone.logits, rtol=1e-5, atol=1e-5)


def test_a_prompt_whose_mask_does_not_count_is_one_without() -> None:
    torch.manual_seed(0)
    model = build_promptable_model(SMALL_VIT).eval()
    images, batch = torch.randn(1, 3, 64, 64), prompts(2)
    with torch.no_grad():
        mixed = model(images, batch._replace(has_mask=torch.tensor([True, False])))
        with_masks, without = model(images, batch), model(images, batch._replace(masks=None))
    torch.testing.assert_close(mixed.logits[0], with_masks.logits[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mixed.logits[1], without.logits[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(with_masks.logits, without.logits)


def test_a_mask_alone_is_a_prompt() -> None:
    model = build_promptable_model(SMALL_VIT).eval()
    batch = PromptBatch(torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.int64), torch.randn(2, 1, 16, 16))
    assert model(torch.zeros(1, 3, 64, 64), batch, "single").logits.shape == (2, 1, 16, 16)


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch8_224"]
)
def test_any_backbone_ends_on_the_same_grid(name: str) -> None:
    model = build_promptable_model(PromptableSettings(name, 96, padding="stride", dim=32, decoder_heads=2)).eval()
    with torch.no_grad():
        assert model.encode(torch.zeros(1, 3, 96, 64)).shape == (1, 32, 6, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size_px": 100}, "size_px is 100; it must be a multiple of 16"),
        ({"dim": 20}, "dim is 20; it must be a multiple of 8"),
        ({"mask_channels": 6}, "mask_channels is 6; it must be a multiple of 4"),
        ({"num_multimask": 0}, "num_multimask is 0; it must be at least 1"),
        ({"padding": "stride"}, "padding stride does not go with encoder sam_vit_b"),
        ({"encoder": "vision_transformer"}, "needs its measures"),
        ({"vision_transformer": VisionTransformerShape(32, 2, 2, (1,), 64)}, "no other takes them"),
    ],
)
def test_settings_out_of_range_are_told(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptableSettings(**changed)  # type: ignore[arg-type]


def test_an_unknown_encoder_is_told() -> None:
    with pytest.raises(InputError, match="'resnet1' is not a timm model name"):
        build_promptable_model(PromptableSettings("resnet1"))


def test_the_model_is_put_together_from_its_parts(model: PromptableModel) -> None:
    assert {name.split(".")[0] for name in model.state_dict()} == {"image_encoder", "prompt_encoder", "mask_decoder"}


class _Encoding(torch.nn.Module):
    """What `torch.export` takes: a module whose forward is `encode`."""

    def __init__(self, model: PromptableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.encode(images)


class _Decoding(torch.nn.Module):
    """The same of `decode`."""

    def __init__(self, model: PromptableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, embedding: torch.Tensor, prompts: PromptBatch) -> DecodedMasks:
        return self.model.decode(embedding, prompts)


@pytest.mark.slow
def test_the_decoder_can_be_exported_for_any_number_of_prompts_and_points_and_any_grid() -> None:
    torch.manual_seed(0)
    module = _Decoding(build_promptable_model(SMALL_VIT).eval())
    drawn, any_size = prompts(3, (6, 4)), torch.export.Dim.DYNAMIC
    example = (torch.randn(1, 256, 6, 4), drawn._replace(has_mask=torch.tensor([True, False, True])))
    sizes = PromptBatch(
        {0: any_size, 1: any_size}, {0: any_size, 1: any_size}, {0: any_size, 2: any_size, 3: any_size}, {0: any_size}
    )
    program = torch.export.export(module, example, dynamic_shapes=({2: any_size, 3: any_size}, sizes)).module()
    points = PromptBatch(
        torch.rand(2, 5, 2), torch.ones(2, 5, dtype=torch.int64), torch.randn(2, 1, 20, 28), torch.ones(2).bool()
    )
    embedding = torch.randn(1, 256, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(program(embedding, points).logits, module(embedding, points).logits)


@pytest.mark.slow
def test_the_encoder_can_be_exported_for_batches_of_any_size_that_pads_the_windows() -> None:
    """As the published size does. torch.export guards whether windows are padded and whether the batch is one, so these
    need programs of their own.
    """
    torch.manual_seed(0)
    module, any_size = _Encoding(build_promptable_model(SMALL_VIT).eval()), torch.export.Dim.DYNAMIC
    height, width = (16 * torch.export.Dim(name, min=2, max=64) for name in ("rows", "columns"))
    program = torch.export.export(
        module, (torch.randn(2, 3, 80, 112),), dynamic_shapes=({0: any_size, 2: height, 3: width},)
    ).module()
    for size in ((3, 3, 112, 128), (2, 3, 64, 64)):
        images = torch.randn(*size)
        with torch.no_grad():
            torch.testing.assert_close(program(images), module(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("encoder", ["sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam"])
def test_timm_has_no_weights_of_sam(encoder: str) -> None:
    with pytest.raises(InputError, match=f"timm has no weights for encoder {encoder}; give a file of the whole model"):
        build_promptable_model(PromptableSettings(encoder), pretrained=True)
