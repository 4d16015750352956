"""Encoders to be looked at: with attention and without, their weights, and what is said of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from densessl.errors import InputError
from densessl.files import file_sha256
from densessl.models.dense_encoder import TimmSource
from densessl.models.encoders import build_encoder
from densessl.models.vision_encoder import open_vision_encoder

CPU = torch.device("cpu")


def test_a_transformer_has_attention_and_a_network_without_says_why() -> None:
    vit, cnn = (open_vision_encoder(TimmSource(name, 16), CPU) for name in ("test_vit", "test_resnet"))
    images = torch.randn(1, 3, 50, 34)
    assert vit.transformer is not None
    assert vit.no_attention == ""
    assert cnn.transformer is None
    assert "no plain vision transformer with attention of a [CLS] token" in cnn.no_attention
    with torch.no_grad():
        assert [encoder.feature_map(images).shape[2:] for encoder in (vit, cnn)] == [(4, 3), (4, 3)]
    assert vit.supervision == "none (random weights)"
    assert vit.fingerprint == open_vision_encoder(TimmSource("test_vit"), CPU).fingerprint
    assert vit.fingerprint != open_vision_encoder(TimmSource("test_vit", seed=1), CPU).fingerprint


def test_weights_of_a_file_are_loaded_and_reported(tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = build_encoder("test_vit").backbone
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    encoder = open_vision_encoder(TimmSource("test_vit", weights=tmp_path / "w.safetensors"), CPU)
    assert torch.equal(encoder.transformer.backbone.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)
    assert encoder.weights is not None
    assert encoder.weights.num_loaded == len(source.state_dict())
    assert encoder.fingerprint == file_sha256(tmp_path / "w.safetensors")
    assert "weights w.safetensors" in encoder.description


def test_images_are_normalised() -> None:
    encoder = open_vision_encoder(TimmSource("test_vit"), CPU)
    grey = torch.tensor(encoder.mean).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert encoder.normalise(grey).abs().max() < 1e-6


def test_weights_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"given both weights .* and pretrained"):
        open_vision_encoder(TimmSource("test_vit", weights=tmp_path / "w.pth", pretrained=True), CPU)
