"""The stages of a segmentation network's encoder, from the image to the last feature map."""

import timm
import torch
from torch import nn

from densessl.models.segmentation_network import SegmentationNetwork


def encoder_stages(network: SegmentationNetwork) -> tuple[tuple[nn.Parameter, ...], ...]:
    """Return the parameters of each stage of a network's encoder, the stem first.

    Stages are those that timm names for layer-wise learning rates: the stem and the levels of resolution of a
    convolutional network, the embedding and the blocks of a vision transformer.
    """
    stage_of = _stage_of_names(network.encoder_name)
    inside = getattr(network.encoder, "backbone", None) or network.encoder.model
    stages: dict[int, list[nn.Parameter]] = {}
    for name, parameter in inside.named_parameters():  # type: ignore[union-attr]
        stages.setdefault(stage_of[_flat(name)], []).append(parameter)
    return tuple(tuple(stages[number]) for number in sorted(stages))


def _stage_of_names(encoder: str) -> dict[str, int]:
    """Return the stage of each of a timm model's parameters, under its flat name."""
    with torch.device("meta"):  # names alone
        whole = timm.create_model(encoder, num_classes=0)
    groups = timm.models.group_parameters(whole, whole.group_matcher(coarse=True), reverse=True)
    return {_flat(name): int(number) for name, number in groups.items()}


def _flat(name: str) -> str:
    """A U-Net's encoder may write `.` in names as `_`."""
    return name.replace(".", "_")
