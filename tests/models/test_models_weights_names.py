"""Tensor names: MobileNetV2's structural mapping covers torchvision's and timm's names one to one."""

import timm
import torch
import torchvision

from densessl.models.weight_names import guess_encoder, maskcontrast_name, mobilenet_v2_name


def test_mobilenet_names_by_hand() -> None:
    expected = {
        "features.0.0.weight": "conv_stem.weight",
        "features.0.1.running_mean": "bn1.running_mean",
        "features.1.conv.0.0.weight": "blocks.0.0.conv_dw.weight",
        "features.1.conv.1.weight": "blocks.0.0.conv_pw.weight",
        "features.1.conv.2.bias": "blocks.0.0.bn2.bias",
        "features.4.conv.1.0.weight": "blocks.2.0.conv_dw.weight",
        "features.17.conv.3.num_batches_tracked": "blocks.6.0.bn3.num_batches_tracked",
        "features.18.0.weight": "conv_head.weight",
        "features.18.1.bias": "bn2.bias",
        "features.19.conv.2.weight": "features.19.conv.2.weight",
        "classifier.1.weight": "classifier.1.weight",
        "layer1.0.conv1.weight": "layer1.0.conv1.weight",
    }
    assert {name: mobilenet_v2_name(name) for name in expected} == expected


def test_mobilenet_names_are_one_to_one() -> None:
    with torch.device("meta"):
        source = torchvision.models.mobilenet_v2(weights=None).features.state_dict()
        target = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0).state_dict()
    renamed = {mobilenet_v2_name(f"features.{name}"): value.shape for name, value in source.items()}
    assert len(renamed) == len(source)
    assert renamed == {name: value.shape for name, value in target.items()}


def test_maskcontrast_names_by_hand() -> None:
    expected = {
        "backbone.layer1.0.conv1.weight": "encoder.backbone.layer1.0.conv1.weight",
        "decoder.0.convs.4.1.weight": "decoder.network.aspp.convs.4.1.weight",
        "decoder.1.weight": "decoder.network.conv.weight",
        "decoder.2.running_var": "decoder.network.bn.running_var",
        "head.bias": "embedding_head.bias",
        "classification_head.weight": "saliency_head.weight",
        "backbone.fc.weight": None,
        "queue": None,
    }
    assert {name: maskcontrast_name(name) for name in expected} == expected


def test_guess_fits_the_architecture() -> None:
    names = ("resnet18", "resnet34", "resnet50", "resnet152", "wide_resnet50_2", "mobilenetv2_100")
    with torch.device("meta"):
        for name in (*names, "vit_tiny_patch16_224", "vit_small_patch8_224", "vit_base_patch14_dinov2"):
            state = timm.create_model(name, pretrained=False, num_classes=0).state_dict()
            assert guess_encoder(state) == name
        assert guess_encoder(timm.create_model("resnext50_32x4d", num_classes=0).state_dict()) is None
    assert guess_encoder({"weight": torch.zeros(1)}) is None
