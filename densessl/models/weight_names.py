"""Tensor names: torchvision's and published MaskContrast names to ours, and the architecture they betray."""

import re
from collections.abc import Mapping

import timm
import torch

_MOBILENET_REPEATS = (1, 2, 3, 4, 3, 3, 1)  # blocks per stage, MobileNetV2 (arXiv:1801.04381), table 2
_FIRST_BLOCK = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
_NEXT_BLOCKS = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2": "conv_pwl",
    "3": "bn3",
}
_STEM_AND_HEAD = {"0.0": "conv_stem", "0.1": "bn1", "18.0": "conv_head", "18.1": "bn2"}

_MASKCONTRAST_PARTS = {
    "backbone.": "encoder.backbone.",
    "decoder.0.": "decoder.network.aspp.",
    "decoder.1.": "decoder.network.conv.",
    "decoder.2.": "decoder.network.bn.",
    "head.": "embedding_head.",
    "classification_head.": "saliency_head.",
}

_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {  # blocks per stage, bottleneck
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
_VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}


def mobilenet_v2_name(name: str) -> str:
    """Return timm's name (`mobilenetv2_100`) of a tensor of torchvision's `mobilenet_v2`; keep any other.

    torchvision numbers all blocks in one list and the layers within a block by position; timm names the
    stage, the block within it and the layer: `features.4.conv.1.0.weight` is `blocks.2.0.conv_dw.weight`.
    """
    parts = re.fullmatch(r"features\.(\d+)\.(?:conv\.)?(.+)\.(\w+)", name)
    if parts is None:
        return name
    number, layer, tensor = int(parts[1]), parts[2], parts[3]
    outer = _STEM_AND_HEAD.get(f"{number}.{layer}")
    if outer is not None and ".conv." not in name:
        return f"{outer}.{tensor}"
    layers = _FIRST_BLOCK if number == 1 else _NEXT_BLOCKS
    position = _stage_and_block(number)
    if position is None or layer not in layers:
        return name
    return f"blocks.{position[0]}.{position[1]}.{layers[layer]}.{tensor}"


def maskcontrast_name(name: str) -> str | None:
    """Return the name in `MaskContrastModel` of a tensor of the published network, `None` if unused."""
    if name.startswith("backbone.fc."):
        return None
    for published, ours in _MASKCONTRAST_PARTS.items():
        if name.startswith(published):
            return ours + name.removeprefix(published)
    return None


def guess_encoder(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the timm name whose architecture the tensors' names and shapes fit, `None` where it is unclear.

    Knows ResNets, MobileNetV2 and plain vision transformers (`vit_small_patch16_224`, its sizes, DINOv2's).
    """
    if "patch_embed.proj.weight" in tensors:
        return _guess_vit(tensors)
    if "conv_stem.weight" in tensors and "blocks.6.0.conv_pwl.weight" in tensors:
        return "mobilenetv2_100"
    if "layer1.0.conv1.weight" in tensors:
        return _guess_resnet(tensors)
    return None


def _stage_and_block(number: int) -> tuple[int, int] | None:
    block = number - 1
    for stage, repeats in enumerate(_MOBILENET_REPEATS):
        if 0 <= block < repeats:
            return stage, block
        block -= repeats
    return None


def _guess_resnet(tensors: Mapping[str, torch.Tensor]) -> str | None:
    blocks = {found[0] for name in tensors if (found := re.match(r"layer\d+\.\d+\.", name))}
    depths = tuple(sum(block.startswith(f"layer{stage}.") for block in blocks) for stage in (1, 2, 3, 4))
    has_bottleneck = "layer1.0.conv3.weight" in tensors
    name = _RESNETS.get((depths, has_bottleneck))
    width = tensors["layer1.0.conv1.weight"].shape[0]
    second = tensors.get("layer1.0.conv2.weight")
    if second is None or second.shape[1] != width:  # grouped convolutions: a ResNeXt
        return None
    if width == 128 and name in {"resnet50", "resnet101"}:
        return f"wide_{name}_2"
    return name if width == 64 else None


def _guess_vit(tensors: Mapping[str, torch.Tensor]) -> str | None:
    shape = tensors["patch_embed.proj.weight"].shape
    size = _VIT_SIZES.get(shape[0])
    if size is None:
        return None
    patch = shape[-1]
    registers = "_reg4" if "reg_token" in tensors else ""
    if registers and "pos_embed" not in tensors:
        candidate = f"vit_{size}_patch{patch}_dinov3"
    elif "blocks.0.ls1.gamma" in tensors:
        candidate = f"vit_{size}_patch{patch}{registers}_dinov2"
    else:
        candidate = f"vit_{size}_patch{patch}_224"
    return candidate if timm.is_model(candidate) else None
