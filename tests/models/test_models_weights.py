"""Encoder weights: published formats give the source network's features, and misfits say what to choose."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from densessl.errors import InputError, MissingInputError
from densessl.models.weights import WeightReport, load_encoder_weights


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network in evaluation mode with random batch-norm parameters and statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.2)):
                    tensor.copy_(low + torch.rand(tensor.shape, generator=generator) * 0.5)
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
                module.num_batches_tracked.fill_(7)
    return network.eval()


def prefixed(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def timm_network(name: str, seed: int, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return randomised(timm.create_model(name, pretrained=False, num_classes=0, **options), seed)


def small_vit(seed: int, **options: Any) -> nn.Module:
    return timm_network("vit_tiny_patch16_224", seed, dynamic_img_size=True, depth=2, **options)


def features(network: nn.Module, height: int = 64, width: int = 96) -> torch.Tensor:
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return network.eval().forward_features(image)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def load(network: nn.Module, path: Path, name: str = "resnet18") -> WeightReport:
    return load_encoder_weights(network, path, encoder_name=name)


def test_torchvision_resnet_gives_the_same_features(tmp_path: Path) -> None:
    source = randomised(torchvision.models.resnet18(weights=None))
    network = timm_network("resnet18", 1)
    report = load(network, saved(tmp_path / "resnet.pth", source.state_dict()))
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        stem = source.maxpool(source.relu(source.bn1(source.conv1(image))))
        expected = source.layer4(source.layer3(source.layer2(source.layer1(stem))))
        torch.testing.assert_close(network.forward_features(image), expected, atol=1e-4, rtol=1e-4)
    assert report.format == "torchvision"
    assert report.unused == ("fc.weight", "fc.bias")
    assert report.missing == ()
    assert report.num_loaded == 120
    assert report.supervision.startswith("ImageNet labels, inferred")
    assert "120 tensors loaded" in report.describe()
    assert "Not used: fc (2)." in report.describe()


def test_torchvision_mobilenet_gives_the_same_last_feature_map(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = randomised(torchvision.models.mobilenet_v2(weights=None))
    network = timm_network("mobilenetv2_100", 1)
    path = saved(tmp_path / "mobilenet.pth", source.state_dict())
    report = load(network, path, "mobilenetv2_100")
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = source.features(image)
        found = network.forward_features(image)
    assert expected.shape == (1, 1280, 2, 3)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert report.num_loaded == len(network.state_dict())
    assert report.unused == ("classifier.1.weight", "classifier.1.bias")


def test_real_mobilenet_weights_load(real_data: Path) -> None:
    path = real_data.parent / "weights" / "mobilenet_v2_imagenet.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the real photographs")
    network = timm_network("mobilenetv2_100", 0)
    report = load(network, path, "mobilenetv2_100")
    assert report.format == "torchvision"
    assert all(value.dtype != torch.float16 for value in network.state_dict().values())
    assert torch.isfinite(features(network)).all()
    assert features(network).std() > 0.05


@pytest.mark.parametrize("prefix", ["module.encoder_q.", "module.base_encoder."])
def test_moco_takes_the_query_encoder(tmp_path: Path, prefix: str) -> None:
    source, twin = timm_network("resnet18", 1), timm_network("resnet18", 2)
    twin_prefix = {"module.encoder_q.": "module.encoder_k."}.get(prefix, "module.momentum_encoder.")
    state = prefixed(prefix, source.state_dict()) | prefixed(twin_prefix, twin.state_dict())
    state |= {prefix + "fc.0.weight": torch.zeros(4, 512), "module.queue": torch.zeros(128, 8)}
    content = {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}
    network = timm_network("resnet18", 3)
    report = load(network, saved(tmp_path / "moco.pth.tar", content))
    assert torch.equal(features(network), features(source))
    assert report.format == "moco"
    assert report.supervision.startswith("none (MoCo")
    assert {"fc.0.weight", "queue"} <= set(report.unused)
    assert len(report.unused) == 2 + len(twin.state_dict())
    assert "leaving aside 'epoch', 'arch', 'optimizer'" in report.describe()


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_dino_takes_the_teacher(tmp_path: Path, wrapper: str) -> None:
    teacher, student = small_vit(1), small_vit(2)
    head = {"head.mlp.0.weight": torch.zeros(4, 192), "head.last_layer.weight_v": torch.zeros(8, 4)}
    content = {
        "student": prefixed("module.", prefixed("backbone.", student.state_dict()) | head),
        "teacher": prefixed(wrapper, prefixed("backbone.", teacher.state_dict()) | head),
        "args": argparse.Namespace(arch="vit_tiny", lr=np.float64(0.1)),
        "epoch": 3,
    }
    network = small_vit(3)
    report = load(network, saved(tmp_path / "dino.pth", content), "vit_tiny_patch16_224")
    assert torch.equal(features(network), features(teacher))
    assert report.format == "dino"
    assert report.supervision.startswith("none (DINO")
    assert report.unused == tuple(head)
    assert "read from the file's 'teacher'".capitalize() in report.describe()


def test_dino_backbone_file_does_not_tell_its_supervision(tmp_path: Path) -> None:
    teacher, network = small_vit(1), small_vit(2)
    report = load(network, saved(tmp_path / "backbone.pth", teacher.state_dict()), "vit_tiny_patch16_224")
    assert torch.equal(features(network), features(teacher))
    assert report.format == "timm"
    assert report.supervision.startswith("unknown")


def test_position_embeddings_of_another_grid_are_resampled(tmp_path: Path) -> None:
    source, network = small_vit(1), small_vit(2, img_size=(64, 96))
    report = load(network, saved(tmp_path / "vit.pth", source.state_dict()), "vit_tiny_patch16_224")
    assert network.pos_embed.shape == (1, 1 + 4 * 6, 192)
    expected = timm.layers.resample_abs_pos_embed(source.pos_embed, [4, 6], num_prefix_tokens=1)
    torch.testing.assert_close(network.pos_embed, expected)
    assert "from 14x14 to 4x6 patches" in report.describe()
    torch.testing.assert_close(features(network), features(source), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("prefix", "format_name"),
    [
        ("encoder.backbone.", "densessl run"),
        ("model.encoder.backbone.", "densessl run"),
        ("module.model_q.backbone.", "maskcontrast"),
        ("online_encoder.net.", "byol"),
        ("online_network.", "byol"),
        ("_orig_mod.module.", "torchvision"),
        ("model.", "torchvision"),
        ("backbone.", "state dict with the encoder under 'backbone.'"),
        ("trunk.", "state dict with the encoder under 'trunk.'"),
    ],
)
def test_formats_are_told_by_prefix(tmp_path: Path, prefix: str, format_name: str) -> None:
    source, network = timm_network("resnet18", 1), timm_network("resnet18", 2)
    report = load(network, saved(tmp_path / "weights.ckpt", {"model": prefixed(prefix, source.state_dict())}))
    assert torch.equal(features(network), features(source))
    assert report.format == format_name


def test_simsiam_is_told_by_its_predictor(tmp_path: Path) -> None:
    source, network = timm_network("resnet18", 1), timm_network("resnet18", 2)
    state = prefixed("module.encoder.", source.state_dict()) | {"module.predictor.0.weight": torch.zeros(2, 2)}
    report = load(network, saved(tmp_path / "simsiam.pth.tar", {"state_dict": state}))
    assert (report.format, report.unused) == ("simsiam", ("predictor.0.weight",))
    assert torch.equal(features(network), features(source))


def test_several_encoders_are_not_chosen_from(tmp_path: Path) -> None:
    state = timm_network("resnet18", 1).state_dict()
    path = saved(tmp_path / "two.pth", prefixed("left.", state) | prefixed("right.", state))
    with pytest.raises(InputError, match=r"several encoders, under 'left.', 'right.'.*save the state_dict\(\)"):
        load(timm_network("resnet18", 2), path)


def test_classifier_of_other_classes_is_named(tmp_path: Path) -> None:
    source = timm.create_model("resnet18", pretrained=False, num_classes=37)
    report = load(timm_network("resnet18", 2), saved(tmp_path / "pets.pth", source.state_dict()))
    assert report.supervision.startswith("labels of 37 classes, inferred")


def test_absent_batch_norm_counters_are_reported(tmp_path: Path) -> None:
    source, network = timm_network("resnet18", 1), timm_network("resnet18", 2)
    state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    report = load(network, saved(tmp_path / "old.pth", state))
    assert len(report.missing) == 20
    assert "20 batch-norm step counters" in report.describe()
    assert torch.equal(features(network), features(source))


@pytest.mark.parametrize(
    ("source_name", "name"),
    [
        ("resnet50", "resnet18"),
        ("resnet101", "resnet50"),
        ("resnet18", "resnet34"),
        ("resnet18", "mobilenetv2_100"),
    ],
)
def test_another_resnet_is_refused_with_the_right_name(tmp_path: Path, source_name: str, name: str) -> None:
    with torch.device("meta"):
        shapes = timm.create_model(source_name, pretrained=False, num_classes=0).state_dict()
    state = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in shapes.items()}
    network = timm.create_model(name, pretrained=False, num_classes=0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        InputError,
        match=f"than encoder {name}: .*choose encoder {source_name}, ",
    ):
        load(network, saved(tmp_path / "other.pth", state), name)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    "name",
    [
        *("vit_small_patch8_224", "vit_base_patch16_224", "vit_small_patch14_dinov2"),
        *("vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"),
    ],
)
def test_another_vit_is_refused_with_the_right_name(tmp_path: Path, name: str) -> None:
    with torch.device("meta"):
        shapes = timm.create_model(name, pretrained=False, num_classes=0, depth=1).state_dict()
    state = {key: torch.zeros(value.shape) for key, value in shapes.items()}
    with pytest.raises(InputError, match=f"choose encoder {name}, which its shapes fit"):
        load(small_vit(1), saved(tmp_path / "other.pth", state), "vit_tiny_patch16_224")


def test_misfit_names_keys_and_shapes(tmp_path: Path) -> None:
    state = dict(timm_network("resnet18", 1).state_dict())
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    del state["bn1.weight"]
    state["extra.weight"] = torch.zeros(1)
    message = (
        "tensors missing: 1 (bn1.weight), of another shape: 1 (conv1.weight (64, 1, 7, 7) instead of "
        "(64, 3, 7, 7)), unknown: 1 (extra.weight); the file looks like an incomplete or altered resnet18"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        load(timm_network("resnet18", 2), saved(tmp_path / "altered.pth", state))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = dict(timm_network("resnet18", 1).state_dict())
    state["bn1.weight"] = torch.full((64,), float("nan"))
    with pytest.raises(InputError, match=r"not finite in 1 tensors \(bn1.weight\).*earlier checkpoint"):
        load(timm_network("resnet18", 2), saved(tmp_path / "diverged.pth", state))


def test_unrelated_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"another architecture.*choose the encoder that the file was"):
        load(timm_network("resnet18", 1), saved(tmp_path / "x.pth", {"weight": torch.zeros(2)}))
    with pytest.raises(InputError, match=r"holds no tensors.*'epoch'.*save the network's state_dict\(\)"):
        load(timm_network("resnet18", 1), saved(tmp_path / "y.pth", {"epoch": 3}))
    with pytest.raises(MissingInputError, match="no checkpoint file"):
        load(timm_network("resnet18", 1), tmp_path / "absent.pth")


def test_safetensors_in_half_precision(tmp_path: Path) -> None:
    source, network = timm_network("resnet18", 1), timm_network("resnet18", 2)
    path = tmp_path / "half.safetensors"
    safetensors.torch.save_file({name: value.half() for name, value in source.state_dict().items()}, path)
    load(network, path)
    assert network.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(network.conv1.weight, source.conv1.weight, atol=1e-3, rtol=1e-3)
