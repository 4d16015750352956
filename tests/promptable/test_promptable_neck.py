"""The layers between a backbone and the mask decoder."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from densessl.errors import InputError
from densessl.promptable.backbone_encoder import BackboneEncoder
from densessl.promptable.neck import TopDownPath, build_neck
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings, settings_from_plain
from densessl.promptable.promptable_weights import load_promptable_model, save_promptable_model

SETTINGS = PromptableSettings(
    "test_resnet", 64, dim=16, decoder_heads=2, decoder_mlp_dim=32, fine_features=True, neck_blocks=1
)


def reach(layers: Callable[[torch.Tensor], torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Return which cells (height, width) of the output a change of the middle cell of features (1, c, h, w) reaches."""
    moved = features.clone()
    moved[..., features.shape[-2] // 2, features.shape[-1] // 2] += 1
    with torch.no_grad():
        return (layers(features) - layers(moved)).abs().amax((0, 1)) > 1e-6


@pytest.mark.parametrize(("num_blocks", "distance"), [(0, 1), (1, 4), (2, 7)])
def test_blocks_let_cells_see_each_other(num_blocks: int, distance: int) -> None:
    torch.manual_seed(0)
    neck = build_neck(5, 8, num_blocks)
    reached = reach(neck, torch.randn(1, 5, 21, 21)).nonzero()
    assert reached.min(0).values.tolist() == [10 - distance] * 2
    assert reached.max(0).values.tolist() == [10 + distance] * 2


def test_the_embedding_reaches_the_finest_map() -> None:
    torch.manual_seed(0)
    path = TopDownPath(8, ((3, 2), (4, 1)))
    maps = torch.randn(1, 3, 10, 14), torch.randn(1, 4, 20, 28)
    embedding = torch.randn(1, 8, 5, 7)
    assert [one.shape[1:] for one in path(embedding, maps)] == [(2, 10, 14), (1, 20, 28)]
    first, second = (reach(lambda given, at=index: path(given, maps)[at], embedding) for index in (0, 1))
    assert first[4:6, 6:8].all()
    assert second[8:12, 12:16].all()
    assert not first[0, 0]
    assert not second[0, 0]


def test_every_layer_learns_and_files_keep_the_blocks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_promptable_model(SETTINGS)
    encoder = model.image_encoder
    assert isinstance(encoder, BackboneEncoder)
    assert encoder.top_down is not None
    embedding = model.encode(torch.randn(2, 3, 64, 48))
    assert embedding.shape == (2, 64, 4, 3)
    embedding.square().mean().backward()
    layers = [*encoder.neck.parameters(), *encoder.top_down.parameters()]
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in layers)
    save_promptable_model(tmp_path / "model.safetensors", model, "none")
    loaded, report = load_promptable_model(tmp_path / "model.safetensors")
    assert loaded.settings == SETTINGS
    assert report.num_loaded == len(model.state_dict())


def test_files_that_were_written_before_there_were_blocks() -> None:
    values = asdict(SETTINGS)
    del values["neck_blocks"]
    assert settings_from_plain(values).neck_blocks == 0


def test_blocks_that_cannot_be_are_told() -> None:
    with pytest.raises(
        InputError, match="neck_blocks is 2, but encoder sam_vit_b has the neck of its published weights"
    ):
        PromptableSettings(neck_blocks=2)
    with pytest.raises(InputError, match=r"model\.neck_blocks is -1"):
        PromptableSettings("test_resnet", neck_blocks=-1)
