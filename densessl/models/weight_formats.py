"""Telling published checkpoint formats apart by their tensor names, and finding the encoder inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from densessl.errors import InputError
from densessl.models.vit_weight_names import TRANSFORMERS_LANDMARKS
from densessl.models.weight_names import mobilenet_v2_name

Tensors = dict[str, torch.Tensor]

# where a state dict may lie in a file, the first found is taken
_CONTAINERS = ("teacher", "state_dict", "model_state_dict", "model", "query", "network", "student")
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # by DistributedDataParallel, torch.compile and Lightning
# a tensor that occurs once in a ResNet, a ViT, timm's and torchvision's MobileNet, and a ViT of transformers
_LANDMARKS = (
    *("layer1.0.conv1.weight", "patch_embed.proj.weight", "conv_stem.weight", "features.0.0.weight"),
    *TRANSFORMERS_LANDMARKS,
)
_CLASSIFIERS = ("fc.weight", "classifier.weight", "classifier.1.weight", "head.weight", "head.fc.weight")

_UNKNOWN = "unknown: the file does not say"
_MASKCONTRAST = "unknown: the file does not say which weights MaskContrast started from"
_NO_LABELS = "none ({method} self-supervision), inferred from the file's tensor names"
_LAYOUTS = (  # format, prefix of the encoder's tensors, supervision
    ("moco", "encoder_q.", _NO_LABELS.format(method="MoCo")),
    ("moco", "base_encoder.", _NO_LABELS.format(method="MoCo v3")),
    ("maskcontrast", "model_q.backbone.", _MASKCONTRAST),
    ("densessl run", "encoder.backbone.", "unknown: the record of the run that wrote the file says it"),
    ("dino", "teacher.backbone.", _NO_LABELS.format(method="DINO")),
    ("byol", "online_encoder.net.", _NO_LABELS.format(method="BYOL")),
    ("byol", "online_encoder.", _NO_LABELS.format(method="BYOL")),
    ("byol", "online_network.", _NO_LABELS.format(method="BYOL")),
)


@dataclass(frozen=True)
class RecognisedWeights:
    """The encoder found in a checkpoint.

    Attributes:
        format: name of the checkpoint's format.
        supervision: which labels trained the weights, as far as the format tells.
        tensors: the encoder's tensors under timm's names, with any classifier or projector that sits on it.
        unused: names, as in the file, of tensors outside the encoder.
        notes: further sentences for the report.
    """

    format: str
    supervision: str
    tensors: Tensors
    unused: tuple[str, ...]
    notes: tuple[str, ...] = ()


def recognise_weights(checkpoint: Mapping[str, Any], path: Path) -> RecognisedWeights:
    """Find the encoder in a checkpoint's content (`densessl.models.checkpoint_file.read_checkpoint`).

    Raises:
        InputError: the file holds no tensors, or none of the known formats fits.
    """
    container, state = state_dict_of(checkpoint, path)
    name, prefix, supervision = _layout(container, state, path)
    tensors = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    unused = tuple(key for key in state if not key.startswith(prefix))
    if "features.0.0.weight" in tensors:
        tensors = {mobilenet_v2_name(key): value for key, value in tensors.items()}
    return RecognisedWeights(name, supervision, tensors, unused, _container_notes(checkpoint, container))


def state_dict_of(checkpoint: Mapping[str, Any], path: Path) -> tuple[str, Tensors]:
    """Return where in the checkpoint its state dict was found ("" = at the top) and the tensors by name.

    Prefixes that all names share because of a wrapper (`module.`, `_orig_mod.`, `model.`) are taken off.
    """
    containers: list[str] = []
    content = checkpoint
    while inner := next((key for key in _CONTAINERS if _holds_tensors(content.get(key))), None):
        containers.append(inner)
        content = content[inner]
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InputError(
            f"{path} holds no tensors where they are looked for; it has {_first(list(checkpoint))}; save the "
            "network's state_dict() at the top or under 'state_dict'"
        )
    while wrapper := next((name for name in _WRAPPERS if all(key.startswith(name) for key in tensors)), None):
        tensors = {key.removeprefix(wrapper): value for key, value in tensors.items()}
    return ".".join(containers), tensors


def _container_notes(checkpoint: Mapping[str, Any], container: str) -> tuple[str, ...]:
    if not container:
        return ()
    others = [key for key in checkpoint if key != container.split(".")[0]]
    return (f"read from the file's {container!r}" + (f", leaving aside {_first(others)}" if others else ""),)


def _holds_tensors(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return any(isinstance(item, torch.Tensor) for item in value.values()) or any(
        _holds_tensors(value.get(key)) for key in _CONTAINERS
    )


def _layout(container: str, state: Tensors, path: Path) -> tuple[str, str, str]:
    """Return the format's name, the prefix of the encoder's tensors and the supervision."""

    def has_encoder_at(prefix: str) -> bool:
        return any(prefix + landmark in state for landmark in _LANDMARKS)

    for name, prefix, supervision in _LAYOUTS:
        if has_encoder_at(prefix):
            return name, prefix, supervision
    if has_encoder_at("backbone."):
        return _backbone_layout(container, state)
    if has_encoder_at("encoder.") and any(key.startswith("predictor.") for key in state):
        return "simsiam", "encoder.", _NO_LABELS.format(method="SimSiam")
    if has_encoder_at(""):
        if method := _vit_method(state):
            return method.lower(), "", _NO_LABELS.format(method=method)
        if any(landmark in state for landmark in TRANSFORMERS_LANDMARKS):
            return "transformers", "", _supervision_of_classifier("transformers", state)
        name = "torchvision" if {"conv1.weight", "features.0.0.weight"} & state.keys() else "timm"
        return name, "", _supervision_of_classifier(name, state)
    prefixes = {key.removesuffix(landmark) for landmark in _LANDMARKS for key in state if key.endswith("." + landmark)}
    if len(prefixes) == 1:
        prefix = prefixes.pop()
        if any(prefix + landmark in state for landmark in TRANSFORMERS_LANDMARKS):
            return "transformers", prefix, _supervision_of_classifier("transformers", state)
        return f"state dict with the encoder under {prefix!r}", prefix, _UNKNOWN
    if len(prefixes) > 1:
        raise InputError(
            f"{path} holds several encoders, under {_first(sorted(prefixes))}, and does not say which "
            "to take; save the state_dict() of one of them"
        )
    # an architecture whose names are not known here: the caller compares them with the encoder's
    return "timm", "", _supervision_of_classifier("timm", state)


def _backbone_layout(container: str, state: Tensors) -> tuple[str, str, str]:
    parts = container.split(".")
    if "classification_head.weight" in state or "decoder.0.project.0.weight" in state:
        return "maskcontrast", "backbone.", _MASKCONTRAST
    if "teacher" in parts or "student" in parts:
        method = _vit_method({key.removeprefix("backbone."): value for key, value in state.items()}) or "DINO"
        return method.lower(), "backbone.", _NO_LABELS.format(method=method)
    return "state dict with the encoder under 'backbone.'", "backbone.", _UNKNOWN


def _vit_method(state: Tensors) -> str:
    """Return the self-supervised method that leaves such tensors in a vision transformer's file; "" = none known."""
    if "storage_tokens" in state:
        return "DINOv3"
    if any(key.startswith("decoder_blocks.") for key in state):
        return "MAE"
    if "masked_embed" in state or any(key.startswith(("head.last_layer2.", "head.mlp2.")) for key in state):
        return "iBOT"
    has_layer_scale = any(key.startswith("blocks.") and key.endswith(".ls1.gamma") for key in state)
    return "DINOv2" if has_layer_scale and ("mask_token" in state or "register_tokens" in state) else ""


def _supervision_of_classifier(name: str, state: Tensors) -> str:
    classifiers = [state[key] for key in _CLASSIFIERS if key in state]
    outputs = next((weight.shape[0] for weight in classifiers if weight.ndim > 1), None)
    if outputs is None:
        return f"{_UNKNOWN} ({name} tensor names without a classifier)"
    labels = "ImageNet labels" if outputs == 1000 else f"labels of {outputs} classes"
    return f"{labels}, inferred from {name} tensor names and a classifier of {outputs} outputs"


def _first(names: list[str], count: int = 4) -> str:
    shown = ", ".join(repr(name) for name in names[:count])
    return shown + (f" and {len(names) - count} more" if len(names) > count else "")
