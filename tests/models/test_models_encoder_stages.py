"""Stages of encoders: every parameter in one of them, from the stem to the last, in every decoder's spelling."""

import pytest

from densessl.models.encoder_stages import encoder_stages
from densessl.models.segmentation_network import Decoder, SegmentationNetwork


@pytest.mark.parametrize(
    ("name", "decoder", "firsts"),
    [
        ("resnet10t", "linear", ["conv1.0", "layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        ("resnet10t", "unet", ["conv1.0", "layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
        ("mobilenetv2_100", "deeplabv3", ["conv_stem", *(f"blocks.{number}.0" for number in range(7))]),
        ("mobilenetv2_100", "unet", ["conv_stem", *(f"blocks.{number}.0" for number in range(7))]),
        ("vit_tiny_patch16_224", "linear", ["cls_token", *(f"blocks.{number}.norm1" for number in range(12))]),
    ],
)
def test_every_parameter_has_one_stage(name: str, decoder: Decoder, firsts: list[str]) -> None:
    network = SegmentationNetwork(name, decoder, 16, 2)
    names = {id(parameter): key.partition(".")[2] for key, parameter in network.encoder.named_parameters()}
    stages = encoder_stages(network)
    assert sorted(id(parameter) for stage in stages for parameter in stage) == sorted(names)
    assert [
        names[id(stage[0])].removesuffix(".weight").startswith(first)
        for stage, first in zip(stages, firsts, strict=True)
    ] == [True] * len(firsts)
