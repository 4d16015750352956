"""Small networks of transformers with random weights, and their files under the names of published checkpoints."""

import re
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from densessl.models.vision_transformer import VisionTransformer
from densessl.models.weights import WeightReport, load_encoder_weights

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
EAGER = {"attn_implementation": "eager"}
TIMM_SIZES = {"embed_dim": 32, "depth": 3, "num_heads": 4, "num_classes": 0}
KINDS = {  # class of transformers, timm's name of the architecture, further settings of it
    "vit": ("ViT", "vit_tiny_patch16_224", {"layer_norm_eps": 1e-6, "intermediate_size": 128}),
    "dinov2": ("Dinov2", "vit_small_patch14_dinov2", {}),
    "registers": ("Dinov2WithRegisters", "vit_small_patch14_reg4_dinov2", {}),
    "dinov3": ("DINOv3ViT", "vit_small_patch16_dinov3_qkvb", {"intermediate_size": 128, "num_register_tokens": 4}),
    "dinov2, gated": ("Dinov2", "vit_giant_patch14_dinov2", {"use_swiglu_ffn": True}),
    "dinov3, gated": (
        "DINOv3ViT",
        "vit_huge_plus_patch16_dinov3_qkvb",
        {"intermediate_size": 128, "num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"},
    ),
    "mae": ("ViTMAE", "vit_tiny_patch16_224", {"layer_norm_eps": 1e-6, "intermediate_size": 128, "mask_ratio": 0.0}),
}


def random_network(kind: str, patch_size: int = 8, num_patches: int = 4, head: str = "Model") -> nn.Module:
    """Return a network of transformers, all its weights drawn anew, for images of num_patches squared patches."""
    name, _, more = KINDS[kind]
    sizes: dict[str, Any] = {"image_size": num_patches * patch_size, "patch_size": patch_size, **SIZES, **more}
    config = getattr(transformers, f"{name}Config")(**sizes)
    config._attn_implementation = "eager"
    network = getattr(transformers, name + head)(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        for part, parameter in network.named_parameters():
            if re.search(r"norm\w*\.weight$", part):
                parameter.add_(1)
    return network.eval()


def timm_network(kind: str, patch_size: int = 8, num_patches: int = 4, **options: Any) -> nn.Module:
    """Return timm's network of the same architecture, with weights of its own."""
    torch.manual_seed(2)
    _, name, _ = KINDS[kind]
    sizes = {"patch_size": patch_size, "img_size": num_patches * patch_size, **TIMM_SIZES, **options}
    sizes |= {"mlp_ratio": {"dinov2, gated": 5.5, "dinov3, gated": 4.0}[kind]} if kind.endswith("gated") else {}
    return timm.create_model(name, pretrained=False, dynamic_img_size=True, **sizes).eval()


def stored_tensors(network: nn.Module, folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors that transformers writes for a network, under the names in its file."""
    network.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def loaded(kind: str, path: Path, patch_size: int = 8, **options: Any) -> tuple[VisionTransformer, WeightReport]:
    """Return timm's network with the weights of a file, to be watched, and the report."""
    backbone = timm_network(kind, patch_size, **options)
    report = load_encoder_weights(backbone, path, encoder_name=KINDS[kind][1], keep_grid=True)
    return VisionTransformer(backbone), report


def in_order(kind: str, image: torch.Tensor, patch_size: int = 8) -> dict[str, Any]:
    """Return the arguments by which transformers takes an image of any shape; MAE keeps its patches in order."""
    if kind in {"vit", "mae"}:
        num = (image.shape[-2] // patch_size) * (image.shape[-1] // patch_size)
        noise = {"noise": torch.arange(num).float().expand(len(image), -1)} if kind == "mae" else {}
        return {"interpolate_pos_encoding": True, **noise}
    return {}


def published_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of transformers' ViT or Dinov2 under the names of DINO's, MAE's and DINOv2's own code."""
    named = {}
    for name, value in tensors.items():
        if name.startswith("pooler."):
            continue
        found = re.fullmatch(r"(?:encoder\.)?layer\.(\d+)\.(.+)\.(weight|bias|lambda1)", name)
        if found is None:
            parts = {"layernorm": "norm", "embeddings.patch_embeddings.projection": "patch_embed.proj"}
            owner, _, kind = name.rpartition(".")
            singles = {"position_embeddings": "pos_embed"}
            named[f"{parts[owner]}.{kind}" if owner in parts else singles.get(kind, kind)] = value
            continue
        number, part, kind = found.groups()
        if part.startswith("attention.attention."):
            if part.endswith("query"):
                three = [tensors[name.replace("query", other)] for other in ("query", "key", "value")]
                named[f"blocks.{number}.attn.qkv.{kind}"] = torch.cat(three)
            continue
        parts = {
            "attention.output.dense": "attn.proj",
            "layernorm_before": "norm1",
            "layernorm_after": "norm2",
            "intermediate.dense": "mlp.fc1",
            "output.dense": "mlp.fc2",
            "mlp.weights_in": "mlp.w12",
            "mlp.weights_out": "mlp.w3",
            "layer_scale1": "ls1",
            "layer_scale2": "ls2",
        }
        named[f"blocks.{number}.{parts.get(part, part)}.{'gamma' if kind == 'lambda1' else kind}"] = value
    return named


def published_dinov3_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of transformers' DINOv3 under the names of its own code, with what else its files hold."""
    named = {
        "cls_token": tensors["embeddings.cls_token"],
        "storage_tokens": tensors["embeddings.register_tokens"],
        "mask_token": torch.zeros(1, 32),
        "patch_embed.proj.weight": tensors["embeddings.patch_embeddings.weight"],
        "patch_embed.proj.bias": tensors["embeddings.patch_embeddings.bias"],
        "rope_embed.periods": torch.ones(2),
        "norm.weight": tensors["norm.weight"],
        "norm.bias": tensors["norm.bias"],
    }
    parts = {"attention.o_proj": "attn.proj", "mlp.up_proj": "mlp.fc1", "mlp.down_proj": "mlp.fc2"}
    if "layer.0.mlp.gate_proj.weight" in tensors:
        parts |= {"mlp.gate_proj": "mlp.w1", "mlp.up_proj": "mlp.w2", "mlp.down_proj": "mlp.w3"}
    for number in range(SIZES["num_hidden_layers"]):
        old, new = f"layer.{number}.", f"blocks.{number}."
        weights = [tensors[f"{old}attention.{part}_proj.weight"] for part in "qkv"]
        named[f"{new}attn.qkv.weight"] = torch.cat(weights)
        query, value = (tensors[f"{old}attention.{part}_proj.bias"] for part in "qv")
        named[f"{new}attn.qkv.bias"] = torch.cat([query, torch.full_like(query, 7.0), value])  # the middle is masked
        named[f"{new}attn.qkv.bias_mask"] = torch.cat([torch.ones(32), torch.zeros(32), torch.ones(32)])
        for kind in ("weight", "bias"):
            for part in ("norm1", "norm2", *parts):
                named[f"{new}{parts.get(part, part)}.{kind}"] = tensors[f"{old}{part}.{kind}"]
        for scale in "12":
            named[f"{new}ls{scale}.gamma"] = tensors[f"{old}layer_scale{scale}.lambda1"]
    return named
