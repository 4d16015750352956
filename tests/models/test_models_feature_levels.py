"""Finer feature maps are found at their strides, and taking them changes nothing."""

import pytest
import torch

from densessl.errors import InputError
from densessl.models.encoders import build_encoder
from densessl.models.feature_levels import encode_levels, find_levels


def test_levels_are_maps_of_the_wanted_strides_beside_the_last_one() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("test_resnet", output_stride=16)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    levels = find_levels(encoder, (8, 4), "test_resnet")
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    encoder.eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        last, maps = encode_levels(encoder, images, levels)
        assert torch.equal(last, encoder(images))
    shapes = {(level.num_channels, 64 // level.stride, 96 // level.stride) for level in levels}
    assert {tuple(one.shape[1:]) for one in maps} == shapes


def test_an_encoder_without_finer_maps_is_told() -> None:
    encoder = build_encoder("vit_tiny_patch16_224")
    with pytest.raises(InputError, match=r"vit_tiny_patch16_224 has no feature map at stride 8 \(its strides are 16\)"):
        find_levels(encoder, (8, 4), "vit_tiny_patch16_224")
