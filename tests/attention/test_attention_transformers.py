"""Attention, rollout, features and weights against transformers, with the same random weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers_networks import (
    in_order,
    loaded,
    published_dinov3_names,
    published_names,
    random_network,
    stored_tensors,
    timm_network,
)

from densessl.attention.maps import attention_maps
from densessl.attention.rollout import rollout
from densessl.errors import InputError
from densessl.models.weights import load_encoder_weights

SHAPES = {"square": (4, 4), "other square": (6, 6), "wide": (2, 7), "tall": (5, 3)}


def image_of(shape: tuple[int, int], patch_size: int) -> torch.Tensor:
    size = (shape[0] * patch_size, shape[1] * patch_size)
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module", params=["vit", "dinov2", "registers", "dinov3"])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=[8, 14, 16])
def patch_size(request):
    return request.param


@pytest.fixture(scope="module")
def networks(kind, patch_size, tmp_path_factory):
    """Return a network of transformers, and ours with the weights of its file."""
    folder = tmp_path_factory.mktemp(kind)
    theirs = random_network(kind, patch_size)
    stored_tensors(theirs, folder)
    ours, report = loaded(kind, folder / "model.safetensors", patch_size)
    assert report.format == "transformers"
    return theirs, ours


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_attention_features_and_rollout_are_those_of_transformers(networks, kind, patch_size, shape):
    theirs, ours = networks
    images = image_of(shape, patch_size)
    with torch.no_grad():
        found = theirs(images, output_attentions=True, **in_order(kind, images, patch_size))
    made = attention_maps(ours, images, (0, 1, 2), for_rollout=True, with_features=True)
    prefix = ours.num_prefix_tokens
    assert made.maps.shape == (2, 3, 4, *shape)
    for layer in range(3):
        expected = found.attentions[layer][:, :, 0, prefix:].reshape(2, 4, *shape)
        torch.testing.assert_close(made.maps[:, layer], expected, atol=1e-5, rtol=0)
    patches = found.last_hidden_state[:, prefix:].transpose(1, 2).reshape(2, 32, *shape)
    torch.testing.assert_close(made.features, patches, atol=1e-4, rtol=1e-4)
    rolled = torch.eye(found.attentions[0].shape[-1])  # Abnar and Zuidema's equation, matrices and all
    for attention in found.attentions:
        rolled = (0.5 * attention.mean(1) + 0.5 * torch.eye(attention.shape[-1])) @ rolled
    torch.testing.assert_close(rollout(made), rolled[:, 0, prefix:].reshape(2, *shape), atol=1e-5, rtol=0)


def test_images_that_are_no_whole_patches_are_padded_and_cropped(tmp_path):
    theirs = random_network("dinov2")
    stored_tensors(theirs, tmp_path)
    ours, _ = loaded("dinov2", tmp_path / "model.safetensors")
    images = image_of((3, 5), 8)[..., :-3, :-7]
    padded = F.pad(images, (0, 7, 0, 3), mode="replicate")
    with torch.no_grad():
        expected = theirs(padded, output_attentions=True).attentions[-1][:, :, 0, 1:].reshape(2, 4, 3, 5)
    made = attention_maps(ours, images)
    assert made.image_size == (21, 33)
    torch.testing.assert_close(made.maps[:, 0], expected, atol=1e-5, rtol=0)


def outputs(network: nn.Module, kind: str, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(images, **in_order(kind, images)).last_hidden_state


def head_of(size: int) -> dict[str, torch.Tensor]:
    return {"head.mlp.0.weight": torch.zeros(4, size), "head.last_layer.weight_v": torch.zeros(8, 4)}


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def chunked(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Number blocks as DINOv2's training does: by the chunk, then by the block."""
    return {name.replace("blocks.", f"blocks.{name.split('.')[1]}.", 1) if name.startswith("blocks.") else name: value
            for name, value in tensors.items()}  # fmt: skip


DINO_HEAD = head_of(32)
FORMATS = {  # name: (architecture, what a file of it holds, its format in the report)
    "dino": ("vit", lambda own: own, "timm"),
    "dino, student and teacher": (
        "vit",
        lambda own: {
            "teacher": prefixed("backbone.", own) | DINO_HEAD,
            "student": prefixed("module.backbone.", {key: value + 1 for key, value in own.items()}),
        },
        "dino",
    ),
    "dino, student alone": ("vit", lambda own: {"student": prefixed("module.backbone.", own), "epoch": 3}, "dino"),
    "ibot": (
        "vit",
        lambda own: {"state_dict": own | {"masked_embed": torch.zeros(1, 32)}},
        "ibot",
    ),
    "ibot, teacher": (
        "vit",
        lambda own: {"teacher": prefixed("module.backbone.", own) | {"module.head.mlp2.0.bias": torch.ones(1)}},
        "ibot",
    ),
    "moco v3": (
        "vit",
        lambda own: {
            "state_dict": prefixed("module.base_encoder.", own | {"head.0.weight": torch.zeros(2, 32)})
            | prefixed("module.momentum_encoder.", {key: value + 1 for key, value in own.items()})
            | {"module.predictor.0.weight": torch.zeros(2, 2)}
        },
        "moco",
    ),
    "mae": (
        "mae",
        lambda own: {
            "model": own | {"mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.zeros(8),
                            "decoder_pos_embed": torch.zeros(1, 17, 8), "decoder_pred.bias": torch.zeros(3)}
        },
        "mae",
    ),
    "dinov2": ("dinov2", lambda own: own, "dinov2"),
    "dinov2, training": (
        "dinov2",
        lambda own: {"teacher": prefixed("backbone.", chunked(own)) | {"dino_head.mlp.0.weight": torch.zeros(2, 2)}},
        "dinov2",
    ),
    "dinov2 with registers": ("registers", lambda own: own, "dinov2"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_published_formats_give_the_outputs_of_transformers(tmp_path: Path, name: str) -> None:
    kind, content_of, format_name = FORMATS[name]
    theirs = random_network(kind)
    own = published_names(stored_tensors(theirs, tmp_path))
    path = tmp_path / "published.pth"
    torch.save(content_of(own), path)
    ours, report = loaded(kind, path)
    images = image_of((4, 4), 8)
    torch.testing.assert_close(ours(images), outputs(theirs, kind, images), atol=1e-4, rtol=1e-4)
    assert report.format == format_name
    assert report.num_loaded == len(ours.backbone.state_dict())
    assert not report.missing


def test_dinov3_in_its_own_names(tmp_path: Path) -> None:
    theirs = random_network("dinov3")
    torch.save(published_dinov3_names(stored_tensors(theirs, tmp_path)), tmp_path / "dinov3.pth")
    ours, report = loaded("dinov3", tmp_path / "dinov3.pth")
    images = image_of((4, 6), 8)
    torch.testing.assert_close(ours(images), outputs(theirs, "dinov3", images), atol=1e-4, rtol=1e-4)
    assert report.format == "dinov3"
    assert report.supervision.startswith("none (DINOv3")
    assert {"mask_token", "rope_embed.periods", "blocks.0.attn.qkv.bias_mask"} <= set(report.unused)


@pytest.mark.parametrize("is_published", [False, True])
@pytest.mark.parametrize("kind", ["dinov2, gated", "dinov3, gated"])
def test_gated_layers_of_the_largest_networks(tmp_path: Path, kind: str, is_published: bool) -> None:
    theirs = random_network(kind)
    tensors, path = stored_tensors(theirs, tmp_path), tmp_path / "model.safetensors"
    if is_published:
        path = tmp_path / "published.pth"
        torch.save((published_dinov3_names if "dinov3" in kind else published_names)(tensors), path)
    ours, report = loaded(kind, path)
    images = image_of((4, 4), 8)
    torch.testing.assert_close(ours(images), outputs(theirs, kind, images), atol=1e-4, rtol=1e-4)
    assert not report.missing


def test_a_masked_autoencoder_with_its_decoder(tmp_path: Path) -> None:
    theirs = random_network("mae", head="ForPreTraining")
    assert any(name.startswith("decoder.") for name in stored_tensors(theirs, tmp_path))
    ours, report = loaded("mae", tmp_path / "model.safetensors")
    images = image_of((4, 4), 8)
    torch.testing.assert_close(ours(images), outputs(theirs.vit, "mae", images), atol=1e-4, rtol=1e-4)
    assert any(name.startswith("decoder.") for name in report.unused)


def test_dinov3_biases_need_a_place_unless_they_are_zero(tmp_path: Path) -> None:
    tensors = published_dinov3_names(stored_tensors(random_network("dinov3"), tmp_path))
    torch.save(tensors, tmp_path / "biased.pth")
    with pytest.raises(InputError, match=r"biases of queries and values .*encoder vit_s has none; choose .*_qkvb"):
        load_encoder_weights(timm_network("dinov3", qkv_bias=False), tmp_path / "biased.pth", encoder_name="vit_s")
    for name in tensors:
        if name.endswith("qkv.bias"):
            tensors[name] = torch.zeros_like(tensors[name])
    torch.save(tensors, tmp_path / "zero.pth")
    report = load_encoder_weights(timm_network("dinov3", qkv_bias=False), tmp_path / "zero.pth", encoder_name="vit_s")
    assert "3 biases of queries, keys and values that are zero were left out" in report.describe()


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_classifiers_of_transformers_are_left_out(tmp_path: Path, suffix: str) -> None:
    whole = random_network("vit", head="ForImageClassification")
    tensors = stored_tensors(whole, tmp_path)
    assert "vit.embeddings.cls_token" in tensors
    path = tmp_path / f"weights.{suffix}"
    (torch.save if suffix == "bin" else save_file)(tensors, path)
    ours, report = loaded("vit", path)
    images = image_of((4, 4), 8)
    torch.testing.assert_close(ours(images), outputs(whole.vit, "vit", images), atol=1e-4, rtol=1e-4)
    assert set(report.unused) == {"classifier.weight", "classifier.bias"}
    assert report.supervision.startswith("labels of 2 classes")


def test_networks_of_transformers_in_memory_are_read_too(tmp_path: Path) -> None:
    """Their tensors have other names than those in their files."""
    for kind in ("vit", "dinov2", "dinov3"):
        theirs = random_network(kind)
        torch.save(theirs.state_dict(), tmp_path / "memory.pt")
        ours, _ = loaded(kind, tmp_path / "memory.pt")
        images = image_of((4, 4), 8)
        torch.testing.assert_close(ours(images), outputs(theirs, kind, images), atol=1e-4, rtol=1e-4)


def test_the_grid_of_the_file_is_kept(tmp_path: Path) -> None:
    """Nothing is resampled on the way in, so that images of the file's own grid see its very embeddings."""
    theirs = random_network("registers", num_patches=6)
    stored_tensors(theirs, tmp_path)
    ours, report = loaded("registers", tmp_path / "model.safetensors")
    assert ours.backbone.pos_embed.shape == (1, 36, 32)
    assert "resampled" not in report.describe()
    images = image_of((3, 6), 8)
    torch.testing.assert_close(ours(images), outputs(theirs, "registers", images), atol=1e-4, rtol=1e-4)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = stored_tensors(random_network("dinov2"), tmp_path)
    del tensors["encoder.layer.1.mlp.fc1.bias"], tensors["encoder.layer.2.attention.attention.key.weight"]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match=r"tensors missing: 2 \(blocks.1.mlp.fc1.bias, blocks.2.attn.qkv.weight\)"):
        loaded("dinov2", tmp_path / "cut.safetensors")
