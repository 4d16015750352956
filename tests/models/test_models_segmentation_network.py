"""The segmentation network: shapes, the encoder of a run, its file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from densessl.errors import InputError, MissingInputError
from densessl.models.encoders import build_encoder
from densessl.models.segmentation_network import (
    Decoder,
    SegmentationNetwork,
    SegmentationNetworkHeader,
    build_segmentation_network,
    copy_run_encoder,
    load_segmentation_network,
    save_segmentation_network,
)

HEADER = SegmentationNetworkHeader("resnet10t", "unet", 16, 4, 32, 0.65, "none (random weights)", "drawn")


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3", "linear"])
@pytest.mark.parametrize(("height", "width"), [(32, 64), (50, 33)])
def test_one_logit_per_class_and_pixel_whatever_the_size(decoder: Decoder, height: int, width: int) -> None:
    network = SegmentationNetwork("resnet10t", decoder, 16, 5).eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 3, height, width)).shape == (2, 5, height, width)


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("resnet10t", "unet"),
        ("mobilenetv2_100", "unet"),
        ("mobilenetv2_100", "deeplabv3"),
        ("resnet10t", "linear"),
    ],
)
def test_the_encoder_takes_the_weights_of_a_run(name: str, decoder: Decoder) -> None:
    torch.manual_seed(3)
    encoder = build_encoder(name, output_stride=16)
    network = SegmentationNetwork(name, decoder, 16, 3)
    copy_run_encoder(network, encoder)
    expected = {key.replace(".", "_"): value for key, value in encoder.backbone.state_dict().items()}
    inside = network.encoder.model if decoder == "unet" else network.encoder.backbone
    for key, value in inside.state_dict().items():
        assert torch.equal(value, expected[key.replace(".", "_")])


def test_a_vision_transformer_needs_deeplabv3() -> None:
    with torch.inference_mode():
        network = SegmentationNetwork("vit_tiny_patch16_224", "deeplabv3", 16, 3).eval()
        assert network(torch.zeros(1, 3, 40, 64)).shape == (1, 3, 40, 64)
    with pytest.raises(InputError, match="no levels of resolution for a U-Net"):
        SegmentationNetwork("vit_tiny_patch16_224", "unet", 16, 3)


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3", "linear"])
def test_a_file_rebuilds_the_network(decoder: Decoder, tmp_path: Path) -> None:
    header = SegmentationNetworkHeader("resnet10t", decoder, 16, 4, 32, 0.65, "none (random weights)", "drawn")
    network = build_segmentation_network(header).eval()
    save_segmentation_network(tmp_path / "network.safetensors", network, header)
    again, read = load_segmentation_network(tmp_path / "network.safetensors")
    assert read == header
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(images), network(images))


@pytest.mark.parametrize(
    "wrong",
    [{"decoder": "fcn"}, {"num_classes": 1}, {"num_classes": 256}, {"size_px": 0}, {"view_share": 0}, {"masks": None}],
)
def test_a_header_that_makes_no_sense(wrong: dict[str, object], tmp_path: Path) -> None:
    content = {**HEADER.__dict__, **wrong}
    path = tmp_path / "network.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"segmentation_network": json.dumps(content)})
    with pytest.raises(InputError, match=r"header of segmentation network .* must give encoder"):
        load_segmentation_network(path)


def test_files_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no segmentation network"):
        load_segmentation_network(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"lacks the header segmentation_network .* that `self_label` writes"):
        load_segmentation_network(tmp_path / "other.safetensors")
    path = tmp_path / "network.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"segmentation_network": json.dumps(HEADER.__dict__)})
    with pytest.raises(InputError, match="other tensors than a unet of 4 classes on resnet10t"):
        load_segmentation_network(path)
