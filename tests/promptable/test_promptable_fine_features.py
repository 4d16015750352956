"""Finer maps fold into the embedding and reach the masks; files and gradients know them."""

from pathlib import Path

import pytest
import torch

from densessl.errors import InputError
from densessl.promptable.fine_features import pack_features, unpack_features
from densessl.promptable.promptable_model import PromptBatch, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import load_promptable_model, save_promptable_model

SETTINGS = PromptableSettings("test_resnet", 64, dim=16, decoder_heads=2, decoder_mlp_dim=32, fine_features=True)


def test_unpacking_undoes_packing_cell_by_cell() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = (
        torch.randn(2, 16, 3, 5, generator=generator),
        torch.randn(2, 4, 6, 10, generator=generator),
        torch.randn(2, 2, 12, 20, generator=generator),
    )
    packed = pack_features(*maps)
    assert packed.shape == (2, 64, 3, 5)
    embedding, fine = unpack_features(packed, 16)
    assert torch.equal(embedding, maps[0])
    for y, x in ((0, 0), (1, 3), (2, 4)):
        cell = 5 * y + x
        for part in range(4):  # row by row
            expected = maps[1][:, :, 2 * y + part // 2, 2 * x + part % 2]
            assert torch.equal(fine.eighth[:, 4 * cell + part], expected)
            for finer in range(4):
                row, column = 4 * y + 2 * (part // 2) + finer // 2, 4 * x + 2 * (part % 2) + finer % 2
                assert torch.equal(fine.quarter[:, 16 * cell + 4 * part + finer], maps[2][:, :, row, column])


def test_a_cell_of_the_finest_map_touches_its_own_logit_alone() -> None:
    """The maps are added after the last enlargement but for an activation."""
    torch.manual_seed(0)
    model = build_promptable_model(SETTINGS).eval()
    prompts = PromptBatch(torch.tensor([[[20.0, 30.0]]]), torch.ones(1, 1, dtype=torch.int64))
    embedding, eighth, quarter = torch.randn(1, 16, 4, 4), torch.randn(1, 4, 8, 8), torch.randn(1, 2, 16, 16)
    moved = quarter.clone()
    moved[0, :, 5, 9] += 1
    with torch.no_grad():
        before, after = (model.decode(pack_features(embedding, eighth, fine), prompts) for fine in (quarter, moved))
    changed = (before.logits != after.logits).any(1)[0]
    assert changed.nonzero().tolist() == [[5, 9]]
    assert torch.equal(before.predicted_iou, after.predicted_iou)


def test_one_image_is_shared_by_prompts_and_gradients_reach_the_fine_necks() -> None:
    torch.manual_seed(0)
    model = build_promptable_model(SETTINGS)
    prompts = PromptBatch(64 * torch.rand(3, 1, 2), torch.ones(3, 1, dtype=torch.int64))
    embedding = model.encode(torch.randn(1, 3, 64, 48))
    assert embedding.shape == (1, 64, 4, 3)
    found = model.decode(embedding, prompts)
    assert found.logits.shape == (3, 4, 16, 12)
    found.logits.square().mean().backward()
    necks = model.image_encoder.fine_necks
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in necks.parameters())


def test_a_file_keeps_the_setting(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_promptable_model(SETTINGS)
    save_promptable_model(tmp_path / "model.safetensors", model, "none")
    loaded, report = load_promptable_model(tmp_path / "model.safetensors")
    assert loaded.settings == SETTINGS
    assert report.num_loaded == len(model.state_dict())


def test_encoders_without_finer_maps_are_told() -> None:
    with pytest.raises(InputError, match="fine_features does not go with encoder sam_vit_b"):
        PromptableSettings(fine_features=True)
    with pytest.raises(InputError, match="has no feature map at stride 8"):
        build_promptable_model(PromptableSettings("vit_tiny_patch16_224", 64, dim=16, fine_features=True))
