"""The saliency network: shapes, its encoder's weights, its file."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from densessl.errors import InputError, MissingInputError
from densessl.models.saliency_network import (
    SaliencyNetwork,
    SaliencyNetworkHeader,
    initial_saliency_network,
    load_saliency_network,
    save_saliency_network,
)


@pytest.mark.parametrize(("height", "width"), [(32, 64), (50, 33)])
def test_one_logit_per_pixel_whatever_the_size(height: int, width: int) -> None:
    network = SaliencyNetwork("resnet18").eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 3, height, width)).shape == (2, height, width)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv2_100"])
def test_the_encoder_takes_weights_from_a_file(encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = timm.create_model(encoder, num_classes=10)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    network, supervision = initial_saliency_network(encoder, tmp_path / "weights.safetensors")
    assert "labels of 10 classes" in supervision
    for name, value in network.unet.encoder.model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


def test_without_weights_no_label_touched_it() -> None:
    assert initial_saliency_network("resnet18")[1] == "none (random weights)"


def test_unknown_and_unfit_encoders() -> None:
    with pytest.raises(InputError, match="'resnet19' is not a timm model name; similar names"):
        SaliencyNetwork("resnet19")
    with pytest.raises(InputError, match=r"has no levels of resolution for a U-Net .* choose a ResNet or a MobileNet"):
        SaliencyNetwork("vit_tiny_patch16_224")


def test_a_file_brings_network_and_header_back(tmp_path: Path) -> None:
    network, header = SaliencyNetwork("resnet18").eval(), SaliencyNetworkHeader("resnet18", 96, "none")
    path = tmp_path / "network.safetensors"
    save_saliency_network(path, network, header)
    loaded, read = load_saliency_network(path)
    image = torch.randn(1, 3, 32, 32)
    assert read == header
    assert torch.equal(loaded(image), network(image))


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no saliency network"):
        load_saliency_network(tmp_path / "none.safetensors")
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="lacks the header"):
        load_saliency_network(path)
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        load_saliency_network(path)
