"""The whole model against a packaged copy of MobileSAM's code with the same random weights, whose file loads."""

import pytest
import torch
from published_mobile_sam import Sam, SamPredictor, mobile_sam, small_mobile_sam
from published_sam import saved
from test_promptable_predictor import check_all_prompts, drawn

from densessl.promptable.predictor import Predictor
from densessl.promptable.prompt_encoder import point_prompts
from densessl.promptable.promptable_model import PromptableModel, PromptBatch
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import load_promptable_model
from densessl.promptable.tiny_vit import TinyVitShape

Both = tuple[Sam, PromptableModel]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Both:
    sam = small_mobile_sam()
    return sam, load_promptable_model(saved(sam, tmp_path_factory.mktemp("small") / "mobile_sam.pt"))[0]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Both at the published measures."""
    sam = mobile_sam()
    model, report = load_promptable_model(saved(sam, tmp_path_factory.mktemp("full") / "mobile_sam.pt"))
    assert report.format == "MobileSAM"
    classifier = ("norm_head.weight", "norm_head.bias", "head.weight", "head.bias")
    assert report.unused == tuple(f"image_encoder.{name}" for name in classifier)
    assert model.settings == PromptableSettings("mobile_sam", 1024, tiny_vit=TinyVitShape())
    return sam, model


def assert_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_published_measures_give_the_same(full: Both) -> None:
    """Embedding, prompts, low-resolution masks and predicted IoU, on a drawn frame without padding."""
    sam, model = full
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 1024, 1024, generator=generator)
    points = 1024 * torch.rand(2, 2, 2, generator=generator)
    labels = torch.tensor([[1, 0]]).repeat(2, 1)
    corners = 1024 * torch.rand(2, 2, 2, generator=generator)
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    masks = torch.randn(2, 1, 256, 256, generator=generator)
    with torch.no_grad():
        wanted, found = sam.image_encoder(images), model.encode(images)
        assert_close(found, wanted)
        sparse, dense = sam.prompt_encoder((points, labels), boxes, masks)
        listed = point_prompts(points, labels, boxes)
        assert_close(model.prompt_encoder.embed_points(*listed), sparse)
        assert_close(model.prompt_encoder.embed_masks(masks), dense)
        prompts, positions = PromptBatch(*listed, masks), sam.prompt_encoder.get_dense_pe()
        for is_multiple in (True, False):
            logits, iou = sam.mask_decoder(wanted, positions, sparse, dense, is_multiple)
            ours = model.decode(found, prompts, "multiple" if is_multiple else "single")
            assert_close(ours.logits, logits)
            assert_close(ours.predicted_iou, iou)


def test_a_small_encoder_gives_the_same_masks_on_an_image(small: Both) -> None:
    sam, model = small
    check_all_prompts(Predictor(model, "cpu", "fp32"), SamPredictor(sam), drawn(150, 101))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(150, 101), (90, 240)])
def test_the_published_measures_give_the_same_masks_on_an_image(full: Both, size: tuple[int, int]) -> None:
    sam, model = full
    check_all_prompts(Predictor(model, "cpu", "fp32"), SamPredictor(sam), drawn(*size))
