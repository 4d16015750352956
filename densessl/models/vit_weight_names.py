"""Tensor names of published vision transformers (transformers, DINOv2, DINOv3) turned into timm's."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from densessl.errors import InputError

Tensors = dict[str, torch.Tensor]

TRANSFORMERS_LANDMARKS = ("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embeddings.weight")
"""The patch embedding of transformers' ViT, ViTMAE, Dinov2 and Dinov2WithRegisters, and of its DINOv3."""

_TRANSFORMERS = (  # pattern, timm's name; files have the older names, networks in memory of version 5 the newer ones
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.(?:projection\.)?(\w+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(\w+)", r"norm.\1"),
)
_TRANSFORMERS_LAYER = re.compile(r"(?:encoder\.|model\.)?layers?\.(\d+)\.(.+)\.(\w+)")
_TRANSFORMERS_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    **{f"attention.attention.{part}": f"attn.{part[0]}" for part in ("query", "key", "value")},
    **{f"attention.{part}_proj": f"attn.{part}" for part in "qkv"},
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
    "layer_scale1": "ls1",
    "layer_scale2": "ls2",
}
_META = (  # DINOv2 and DINOv3 as Meta publishes them
    (r"register_tokens|storage_tokens", "reg_token"),
    (r"blocks\.\d+\.(\d+)\.(.+)", r"blocks.\1.\2"),  # DINOv2's training numbers its blocks within chunks as well
)
_META_SWIGLU = ((r"(.+\.mlp)\.w12\.(\w+)", r"\1.fc1.\2"), (r"(.+\.mlp)\.w3\.(\w+)", r"\1.fc2.\2"))


def timm_vit_tensors(tensors: Mapping[str, torch.Tensor], encoder: Any, encoder_name: str) -> tuple[Tensors, list[str]]:
    """Return a vision transformer's tensors as timm's network of that kind has them, and notes on what was changed.

    Names are translated, queries, keys and values joined, the position of [CLS] added to its token where timm's network
    keeps positions of patches only, and DINOv3's biases split or, where they are zero and the network has none, left
    out. Tensors of other networks come back as they are.

    Args:
        tensors: by name, without what all names begin with.
        encoder: the timm network that they are for.
        encoder_name: for messages.

    Raises:
        InputError: biases that are not zero, for a network that has none.
    """
    if not _is_vit(tensors):
        return dict(tensors), []
    expected = set(encoder.state_dict())
    is_transformers = any(landmark in tensors for landmark in TRANSFORMERS_LANDMARKS)
    named = _from_transformers(tensors) if is_transformers else _from_meta(tensors)
    named = {_layer_scale_name(name, expected): value for name, value in named.items() if value.numel()}
    named = _join_projections(named)
    notes: list[str] = []
    if getattr(encoder, "no_embed_class", False):
        named = _fold_class_position(named, notes)
    return _fit_biases(named, expected, encoder_name, notes), notes


def _is_vit(tensors: Mapping[str, torch.Tensor]) -> bool:
    return "patch_embed.proj.weight" in tensors or any(landmark in tensors for landmark in TRANSFORMERS_LANDMARKS)


def _from_transformers(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    is_gated = any(name.endswith("mlp.gate_proj.weight") for name in tensors)
    gated = {"mlp.gate_proj": "mlp.fc1_g", "mlp.up_proj": "mlp.fc1_x"} if is_gated else {}
    return {_transformers_name(name, {**_TRANSFORMERS_PARTS, **gated}): value for name, value in tensors.items()}


def _transformers_name(name: str, parts: Mapping[str, str]) -> str:
    layer = _TRANSFORMERS_LAYER.fullmatch(name)
    if layer is None:
        return _renamed(name, _TRANSFORMERS)
    number, part, tensor = layer.groups()
    return f"blocks.{number}.{parts.get(part, part)}.{'gamma' if tensor == 'lambda1' else tensor}"


def _from_meta(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    is_joined = any(name.endswith("mlp.w12.weight") for name in tensors)
    is_gated = any(name.endswith("mlp.w1.weight") for name in tensors)
    swiglu: tuple[tuple[str, str], ...] = _META_SWIGLU if is_joined else ()
    if is_gated:  # DINOv3
        parts = (("w1", "fc1_g"), ("w2", "fc1_x"), ("w3", "fc2"))
        swiglu = tuple((rf"(.+\.mlp)\.{theirs}\.(\w+)", rf"\1.{ours}.\2") for theirs, ours in parts)
    return {_renamed(_renamed(name, _META), swiglu): value for name, value in tensors.items()}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def _layer_scale_name(name: str, expected: set[str]) -> str:
    """DINOv3's network keeps its layer scales in the block itself."""
    if "blocks.0.gamma_1" not in expected:
        return name
    return re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name)


def _join_projections(tensors: Tensors) -> Tensors:
    """Join queries, keys and values of each layer; a bias that keys lack (DINOv3) is zero."""
    joined: Tensors = {}
    for name, value in tensors.items():
        found = re.fullmatch(r"(blocks\.\d+\.attn)\.([qkv])\.(weight|bias)", name)
        if found is None:
            joined[name] = value
            continue
        start, kind = found[1], found[3]
        parts = [tensors.get(f"{start}.{part}.{kind}") for part in "qkv"]
        if kind == "bias":
            parts = [torch.zeros_like(value) if part is None else part for part in parts]
        if any(part is None for part in parts):
            joined[name] = value  # named as missing by the check of the whole
        else:
            joined[f"{start}.qkv.{kind}"] = torch.cat([part for part in parts if part is not None])
    return joined


def _fold_class_position(tensors: Tensors, notes: list[str]) -> Tensors:
    """Add the position of [CLS] to the token itself; the network adds positions to patches only."""
    positions, token = tensors.get("pos_embed"), tensors.get("cls_token")
    if positions is None or token is None or positions.ndim != 3 or _is_square(positions.shape[1]):
        return tensors
    if not _is_square(positions.shape[1] - 1) or positions.shape[2] != token.shape[-1]:
        return tensors
    notes.append("the position of [CLS] was added to its token, which is the same")
    return {**tensors, "cls_token": token + positions[:, :1], "pos_embed": positions[:, 1:]}


def _is_square(number: int) -> bool:
    return round(number**0.5) ** 2 == number


def _fit_biases(tensors: Tensors, expected: set[str], encoder_name: str, notes: list[str]) -> Tensors:
    """Bring the biases of queries, keys and values to what the network has: together, apart (Eva), or none."""
    names = [name for name in tensors if re.fullmatch(r"blocks\.\d+\.attn\.qkv\.bias", name) and name not in expected]
    if not names:
        return tensors
    fitted = {name: value for name, value in tensors.items() if name not in names}
    for name in names:
        query, _, value = tensors[name].chunk(3)  # the bias of keys is masked in DINOv3: it changes no attention
        block = name.removesuffix("qkv.bias")
        if f"{block}q_bias" in expected:
            fitted |= {f"{block}q_bias": query, f"{block}v_bias": value}
        elif query.any() or value.any():
            raise InputError(
                f"the weights have biases of queries and values ({name}), but encoder {encoder_name} has none; choose "
                "the encoder of that name with _qkvb, before any dot"
            )
    if not any(name.endswith("q_bias") for name in fitted):
        notes.append(f"{len(names)} biases of queries, keys and values that are zero were left out")
    return fitted
