"""Encoders: shapes at every output stride, odd and non-square sizes, errors."""

import pytest
import torch

from densessl.errors import InputError
from densessl.models.encoders import build_encoder


def _encode(name: str, output_stride: int, size: tuple[int, int]) -> tuple[tuple[int, ...], int, int]:
    encoder = build_encoder(name, output_stride=output_stride).eval()
    with torch.no_grad():
        features = encoder(torch.zeros(2, 3, *size))
    return tuple(features.shape), encoder.num_channels, encoder.stride


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("mobilenetv2_100", 1280)])
def test_convolutional_encoders_keep_their_stride(name: str, channels: int, output_stride: int) -> None:
    height, width = 33, 50
    shape, num_channels, stride = _encode(name, output_stride, (height, width))
    assert shape == (2, channels, -(-height // output_stride), -(-width // output_stride))
    assert (num_channels, stride) == (channels, output_stride)


@pytest.mark.parametrize(("name", "columns"), [("test_efficientnet", 3), ("test_convnext", 2), ("test_byobnet", 3)])
def test_other_families(name: str, columns: int) -> None:
    shape, num_channels, stride = _encode(name, 16, (48, 33))
    assert shape == (2, num_channels, 3, columns)  # a ConvNeXt drops the pixels that fill no patch, others pad
    assert stride == 16


@pytest.mark.parametrize("size", [(32, 48), (33, 50), (16, 16)])
def test_vision_transformer_of_any_image_size(size: tuple[int, int]) -> None:
    shape, num_channels, stride = _encode("vit_tiny_patch16_224", 8, size)
    assert (num_channels, stride) == (192, 16)
    assert shape == (2, 192, -(-size[0] // 16), -(-size[1] // 16))


def test_tokens_lie_where_their_patch_was() -> None:
    encoder = build_encoder("test_vit").eval()
    images = torch.zeros(1, 3, 32, 64)
    marked = images.clone()
    marked[:, :, 16:, 32:48] = 5.0  # the patch in row 1, column 2
    encoder.backbone.blocks = torch.nn.Identity()  # type: ignore[assignment]  # no mixing of tokens
    with torch.no_grad():
        change = (encoder(marked) - encoder(images)).abs().sum(1)[0]
    assert change[1, 2] > 0
    assert (change > 1e-5).sum() == 1


def test_strides_keep_the_receptive_grid_dense() -> None:
    """Every cell sees another part of the image: a dilated network is not a repeated coarse one."""
    encoder = build_encoder("test_resnet", output_stride=8).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert features.shape[-2:] == (8, 8)
    assert len(features[0].flatten(1).T.unique(dim=0)) == 64


def test_unknown_names_are_refused_with_similar_ones() -> None:
    with pytest.raises(InputError, match=r"encoder 'resnet_18x' is not a timm model name; similar names: .*resnet"):
        build_encoder("resnet_18x")
    with pytest.raises(InputError, match=r"'nosuchnet' is not a timm model name; similar names: resnet18, mobilenetv2"):
        build_encoder("nosuchnet")


def test_unsupported_strides_are_refused() -> None:
    with pytest.raises(InputError, match=r"output_stride 4 is not one of 8, 16, 32"):
        build_encoder("resnet18", output_stride=4)
    with pytest.raises(InputError, match=r"encoder 'test_maxvit' does not (take|support).*output_stride"):
        build_encoder("test_maxvit", output_stride=8)
