"""SAM's encoder against the package segment-anything, and its attention against a loop."""

import pytest
import torch
from published_sam import vit_b_sam
from segment_anything.modeling import Sam

from densessl.errors import InputError
from densessl.promptable import vision_transformer
from densessl.promptable.promptable_model import PromptableModel
from densessl.promptable.vision_transformer import (
    VIT_B,
    RelativeAttention,
    VisionTransformer,
    VisionTransformerShape,
    relative_table,
)


def test_embeddings_are_the_published_ones(published: Sam, model: PromptableModel) -> None:
    images = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model.encode(images), published.image_encoder(images), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_vit_b_embeds_as_published() -> None:
    sam = vit_b_sam()
    ours = VisionTransformer(VIT_B, 1024, 256)
    ours.load_state_dict(sam.image_encoder.state_dict())
    images = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), sam.image_encoder(images), rtol=1e-5, atol=1e-5)


def test_attention_is_the_equation_written_as_a_loop() -> None:
    torch.manual_seed(0)
    attention = RelativeAttention(dim=6, num_heads=2, side=3).double()
    torch.nn.init.normal_(attention.rel_pos_h)
    torch.nn.init.normal_(attention.rel_pos_w)
    tokens = torch.randn(1, 3, 3, 6, dtype=torch.float64)
    query, key, value = attention.qkv(tokens).reshape(9, 3, 2, 3).unbind(1)  # (9, heads, head dim)
    mixed = torch.zeros(9, 2, 3, dtype=torch.float64)
    for head in range(2):
        for i in range(9):
            scores = torch.stack(
                [
                    query[i, head] @ key[j, head] / 3**0.5
                    + query[i, head] @ attention.rel_pos_h[i // 3 - j // 3 + 2]
                    + query[i, head] @ attention.rel_pos_w[i % 3 - j % 3 + 2]
                    for j in range(9)
                ]
            )
            mixed[i, head] = scores.softmax(0) @ value[:, head]
    torch.testing.assert_close(attention(tokens), attention.proj(mixed.reshape(1, 3, 3, 6)))


def test_bands_of_queries_change_nothing(model: PromptableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = model.encode(images)
        monkeypatch.setattr(vision_transformer, "_MAX_BIAS_VALUES", 3 * 4 * 16 * 256)  # 3 rows of the grid
        torch.testing.assert_close(model.encode(images), whole, rtol=1e-5, atol=1e-5)


def test_another_size_gets_resampled_positions(model: PromptableModel) -> None:
    with torch.no_grad():
        assert model.encode(torch.zeros(1, 3, 128, 192)).shape == (1, 256, 8, 12)
    table = torch.arange(5.0)[:, None]
    assert relative_table(table, 3)[:, :, 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert relative_table(table, 5).shape == (5, 5, 1)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(InputError, match="dim 10 cannot have num_heads 4"):
        VisionTransformerShape(10, 2, 4, (0,), 40)
