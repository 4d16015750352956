"""The whole model against transformers' SamModel, whose files load under their own names."""

from pathlib import Path

import pytest
import torch
from published_sam import randomise
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from densessl.promptable.prompt_encoder import point_prompts
from densessl.promptable.promptable_model import PromptBatch
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import load_promptable_model
from densessl.promptable.vision_transformer import VisionTransformerShape


def transformers_sam() -> SamModel:
    """A small SamModel. Its two-way transformer has norms of epsilon 1e-6 where SAM's own code has 1e-5."""
    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=160,
        window_size=4,
        global_attn_indexes=[1],
        num_pos_feats=64,
        output_channels=128,
    )
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=128, image_size=160),
        mask_decoder_config=SamMaskDecoderConfig(hidden_size=128, mlp_dim=96, iou_head_depth=4, layer_norm_eps=1e-5),
    )
    model = SamModel(config)
    randomise(model)
    with torch.no_grad():  # SamModel draws positions of a hundred times the published frequencies
        model.shared_image_embedding.positional_embedding.normal_()
    model.prompt_encoder.shared_embedding.positional_embedding = model.shared_image_embedding.positional_embedding
    return model.eval()


@pytest.mark.parametrize("is_multiple", [True, False])
def test_a_saved_sam_model_gives_the_same_masks(tmp_path: Path, is_multiple: bool) -> None:
    theirs = transformers_sam()
    theirs.save_pretrained(tmp_path)
    ours, report = load_promptable_model(tmp_path / "model.safetensors")
    assert report.format == "transformers SamModel"
    assert ours.settings == PromptableSettings(
        "vision_transformer",
        160,
        vision_transformer=VisionTransformerShape(32, 3, 2, (1,), 128, window=4),
        dim=128,
        decoder_mlp_dim=96,
        iou_depth=4,
    )
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 160, 160, generator=generator)
    points = 160 * torch.rand(4, 2, 2, generator=generator)
    labels = torch.tensor([[1, 0]]).repeat(4, 1)
    masks = torch.randn(1, 1, 40, 40, generator=generator)
    with torch.no_grad():
        wanted = theirs(
            pixel_values=images,
            input_points=points[None],
            input_labels=labels[None],
            input_masks=masks,
            multimask_output=is_multiple,
        )
        embedding = ours.encode(images)
        prompts = PromptBatch(*point_prompts(points, labels, None), masks.expand(4, -1, -1, -1))
        found = ours.decode(embedding, prompts, "multiple" if is_multiple else "single")
        torch.testing.assert_close(embedding, theirs.get_image_embeddings(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.logits, wanted.pred_masks[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.predicted_iou, wanted.iou_scores[0], rtol=1e-5, atol=1e-5)
