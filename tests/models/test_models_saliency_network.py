"""The saliency network: shapes, its encoder's weights, its file."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from densessl.errors import InputError, MissingInputError
from densessl.models import saliency_network
from densessl.models.saliency_network import (
    DECODERS,
    SaliencyNetwork,
    SaliencyNetworkHeader,
    initial_saliency_network,
    load_saliency_network,
    save_saliency_network,
)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("height", "width"), [(32, 64), (50, 33)])
def test_one_logit_per_pixel_whatever_the_size(height: int, width: int, decoder: str) -> None:
    network = SaliencyNetwork("resnet18", decoder).eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 3, height, width)).shape == (2, height, width)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv2_100", "convnext_atto", "densenet121"])
def test_the_encoder_takes_weights_from_a_file(encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = timm.create_model(encoder, num_classes=10)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    network, report = initial_saliency_network(encoder, tmp_path / "weights.safetensors")
    assert report is not None
    assert "labels of 10 classes" in report.supervision
    expected = {name.replace(".", "_"): value for name, value in source.state_dict().items()}  # as in some U-Nets
    for name, value in network.parts.encoder.model.state_dict().items():
        assert torch.equal(value, expected[name.replace(".", "_")])


def test_without_weights_no_label_touched_it() -> None:
    assert initial_saliency_network("resnet18")[1] is None


def test_weights_whose_names_differ_inside_the_u_net() -> None:
    whole, levels = nn.Sequential(nn.Linear(1, 1)), nn.ModuleDict({"1": nn.Linear(1, 1)})
    with pytest.raises(InputError, match=r"weights of encoder odd .* 2 tensors bear other names there \(such as 1\."):
        saliency_network.copy_levels(whole, levels, "odd")


def test_weights_that_timm_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    original = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        if pretrained:
            raise OSError("no route to host\nand much more")
        return original(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"weights for resnet18 cannot be had \(no route to host\); give a file"):
        initial_saliency_network("resnet18", pretrained=True)


def test_unknown_and_unfit_encoders() -> None:
    with pytest.raises(InputError, match="'resnet19' is not a timm model name; similar names"):
        SaliencyNetwork("resnet19")
    with pytest.raises(InputError, match=r"has no levels of resolution for a U-Net .* choose a ResNet or a MobileNet"):
        SaliencyNetwork("vit_tiny_patch16_224")
    with pytest.raises(InputError, match="has no levels of resolution for an FPN"):
        SaliencyNetwork("vit_tiny_patch16_224", "fpn")
    with pytest.raises(InputError, match=r"images of any size .*doesn't match model"):
        SaliencyNetwork("swin_tiny_patch4_window7_224")


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_file_brings_network_and_header_back(decoder: str, tmp_path: Path) -> None:
    network = SaliencyNetwork("resnet10t", decoder).eval()
    header = SaliencyNetworkHeader("resnet10t", 96, 0.75, "none", decoder, scales=(0.5, 1))
    path = tmp_path / "network.safetensors"
    save_saliency_network(path, network, header)
    loaded, read = load_saliency_network(path)
    image = torch.randn(1, 3, 32, 32)
    assert read == header
    assert torch.equal(loaded(image), network(image))


def test_a_file_of_before_there_were_other_decoders_holds_a_u_net(tmp_path: Path) -> None:
    network, path = SaliencyNetwork("resnet10t").eval(), tmp_path / "network.safetensors"
    save_file(network.state_dict(), path, metadata={"saliency_network": json.dumps({**GOOD, "encoder": "resnet10t"})})
    loaded, header = load_saliency_network(path)
    assert header.decoder == "unet"
    assert torch.equal(loaded(torch.ones(1, 3, 32, 32)), network(torch.ones(1, 3, 32, 32)))


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


@pytest.mark.parametrize("decoder", DECODERS)
def test_logits_can_be_shifted(decoder: str) -> None:
    network, images = SaliencyNetwork("resnet10t", decoder).eval(), torch.randn(1, 3, 40, 33)
    with torch.no_grad():
        before = network(images)
        network.shift_logits(-1.5)
        torch.testing.assert_close(network(images), before - 1.5)


GOOD = {"encoder": "resnet18", "size_px": 96, "view_share": 0.75, "supervision": "none"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{broken", "is no JSON"),
        (json.dumps([1, 2]), r"is '\[1, 2\]'; it must give encoder"),
        (json.dumps({"encoder": "resnet18", "size_px": 96}), "it must give encoder and supervision"),
        (json.dumps({**GOOD, "size_px": "96"}), "size_px in 32-4096"),
        (json.dumps({**GOOD, "size_px": 0}), "size_px in 32-4096"),
        (json.dumps({**GOOD, "view_share": 0}), "view_share in 0.01-1"),
        (json.dumps({**GOOD, "view_share": float("nan")}), "view_share in 0.01-1"),
        (json.dumps({**GOOD, "encoder": None}), "it must give encoder"),
        (json.dumps({**GOOD, "decoder": "linknet"}), "decoder unet or fpn"),
        (json.dumps({**GOOD, "decoder": ["unet"]}), "decoder unet or fpn"),
        (json.dumps({**GOOD, "scales": []}), "scales, 1 to 8 numbers in 0.25-4: get or"),
        (json.dumps({**GOOD, "scales": [1, 400]}), "scales, 1 to 8 numbers"),
        (json.dumps({**GOOD, "scales": "11"}), "scales, 1 to 8 numbers"),
        (json.dumps({**GOOD, "encoder": "resnet19"}), "'resnet19' is not a timm model name"),
        (json.dumps({**GOOD}), "holds other tensors than a unet on resnet18: [0-9]+ are missing, .* such as a; get or"),
    ],
)
def test_headers_of_strangers(header: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"saliency_network": header})
    with pytest.raises(InputError, match=message):
        load_saliency_network(path)
