"""Patch features: keys and attention against a walk through the network by hand, feature maps, refusals."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from densessl.errors import InputError, MissingInputError
from densessl.models import patch_features as module
from densessl.models.encoders import build_encoder
from densessl.models.patch_features import load_patch_encoder, patch_features


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def last_projection(vit, image):
    """Return queries, keys and values (3, tokens, heads, head dim) of the last block, layer by layer."""
    tokens = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(image))))
    for block in vit.blocks[:-1]:
        tokens = block(tokens)
    last = vit.blocks[-1]
    projected = last.attn.qkv(last.norm1(tokens))[0]
    return projected.reshape(len(projected), 3, last.attn.num_heads, -1).transpose(0, 1).double()


@pytest.mark.parametrize(("name", "asking"), [("test_vit", slice(0, 1)), ("test_vit3", slice(1, None))])
def test_keys_and_attention_are_those_of_the_last_block(name, asking):
    """test_vit has a class token; test_vit3 has none, but a register token, so that all patches ask."""
    encoder = build_encoder(name).eval()
    image = torch.randn(1, 3, 48, 80)
    with torch.inference_mode():
        features = patch_features(encoder, image)
        query, key, _ = last_projection(encoder.backbone, image)
    assert (features.height, features.width) == (3, 5)
    num_tokens, num_heads, dim = key.shape
    assert num_tokens == 16
    np.testing.assert_allclose(features.values, key[1:].reshape(15, num_heads * dim), atol=1e-5)
    for head in range(num_heads):
        received = torch.zeros(15, dtype=torch.float64)
        asked = query[asking, head]
        for row in asked:
            weights = [math.exp(float(row @ key[token, head]) / dim**0.5) for token in range(num_tokens)]
            received += torch.tensor(weights[1:], dtype=torch.float64) / sum(weights) / len(asked)
        np.testing.assert_allclose(features.attention[head], received, atol=1e-6)


def test_cells_are_in_reading_order():
    """A change in one corner of the image moves the key of that corner most."""
    encoder = build_encoder("test_vit").eval()
    image = torch.zeros(1, 3, 32, 96)
    changed = image.clone()
    changed[..., :16, 80:] = 3
    with torch.inference_mode():
        moved = patch_features(encoder, changed).values - patch_features(encoder, image).values
    assert np.argmax(np.linalg.norm(moved, axis=1)) == 5


def test_a_feature_map_is_centred_and_its_norm_stands_in_for_attention():
    encoder = build_encoder("test_resnet", output_stride=16).eval()
    image = torch.randn(1, 3, 48, 80)
    with torch.inference_mode():
        features, feature_map = patch_features(encoder, image), encoder(image)[0].double().numpy()
    assert (features.height, features.width, features.attention.shape) == (3, 5, (1, 15))
    for row in range(3):
        for column in range(5):
            cell = feature_map[:, row, column]
            np.testing.assert_allclose(features.values[row * 5 + column], cell - feature_map.mean(axis=(1, 2)))
            assert features.attention[0, row * 5 + column] == pytest.approx(np.linalg.norm(cell))


def test_no_hook_stays_behind():
    encoder = build_encoder("test_vit").eval()
    with torch.inference_mode():
        patch_features(encoder, torch.zeros(1, 3, 32, 32))
    assert not encoder.backbone.blocks[-1].attn.qkv._forward_hooks


@pytest.mark.parametrize(("name", "has_keys"), [("test_vit", True), ("test_efficientnet", False)])
def test_weights_of_a_file_are_loaded_and_their_labels_named(name, has_keys, tmp_path):
    network = build_encoder(name).backbone
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    encoder = load_patch_encoder(name, weights=tmp_path / "weights.safetensors")
    assert encoder.has_keys == has_keys
    assert not encoder.encoder.training
    assert "unknown" in encoder.supervision
    for name, tensor in encoder.encoder.backbone.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 64, 32)
    with torch.inference_mode():
        expected = patch_features(encoder.encoder, torch.zeros(1, 3, 64, 32)).values
    np.testing.assert_allclose(encoder.extract(grey).values, expected, atol=1e-4)


def test_a_download_that_fails_is_refused(monkeypatch):
    def fails(name, **options):
        raise FileNotFoundError("nothing in the cache\nand more")

    monkeypatch.setattr(module, "build_encoder", fails)
    with pytest.raises(InputError, match=r"weights for test_vit cannot be had \(nothing in the cache\); give a file"):
        load_patch_encoder("test_vit", pretrained=True)


def test_unusable_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="test_vit is given neither a weights file nor pretrained"):
        load_patch_encoder("test_vit")
    with pytest.raises(InputError, match=r"given weights .*w\.safetensors and pretrained"):
        load_patch_encoder("test_vit", weights=tmp_path / "w.safetensors", pretrained=True)
    with pytest.raises(MissingInputError, match="no checkpoint file"):
        load_patch_encoder("test_vit", weights=tmp_path / "w.safetensors")
    save_file(build_encoder("test_resnet").backbone.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="another architecture than encoder test_vit"):
        load_patch_encoder("test_vit", weights=tmp_path / "w.safetensors")
