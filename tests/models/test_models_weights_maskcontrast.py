"""Published MaskContrast checkpoints give the outputs of the architecture built from torchvision's parts."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import ASPP

from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, build_model
from densessl.models.weights import load_encoder_weights, load_maskcontrast_checkpoint


class PublishedNetwork(nn.Module):
    """The published architecture: dilated torchvision ResNet, torchvision DeepLab head, two 1x1 heads."""

    def __init__(self, encoder: str) -> None:
        super().__init__()
        self.backbone = dilated_resnet(encoder)
        self.decoder = nn.Sequential(
            ASPP({"resnet18": 512, "resnet50": 2048}[encoder], [12, 24, 36]),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(256, 32, 1)
        self.classification_head = nn.Conv2d(256, 1, 1, bias=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        resnet = self.backbone
        stem = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
        decoded = self.decoder(resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(stem)))))
        embedding, saliency = self.head(decoded), self.classification_head(decoded)
        return upsampled(embedding, images), upsampled(saliency, images)


def dilated_resnet(name: str) -> nn.Module:
    if name == "resnet50":
        resnet = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    else:
        resnet = torchvision.models.resnet18(weights=None)
        for layer, dilation in ((resnet.layer3, 2), (resnet.layer4, 4)):
            for module in layer.modules():
                if isinstance(module, nn.Conv2d):
                    own = dilation // 2 if module.stride == (2, 2) else dilation
                    module.stride = (1, 1)
                    if module.kernel_size == (3, 3):
                        module.dilation = module.padding = (own, own)
    del resnet.fc
    return resnet


def upsampled(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return F.interpolate(values, size=images.shape[-2:], mode="bilinear", align_corners=False)


def published(encoder: str, seed: int) -> PublishedNetwork:
    torch.manual_seed(seed)
    network = PublishedNetwork(encoder)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, 0.0, 0.1)
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def saved(path: Path, network: nn.Module, prefix: str, extra: dict[str, torch.Tensor] | None = None) -> Path:
    state: dict[str, Any] = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save({"model": state | (extra or {}), "epoch": 39}, path)
    return path


def ours(encoder: str = "resnet18", **settings: Any) -> MaskContrastModel:
    return build_model(ModelSettings(encoder=encoder, **settings)).eval()


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
@pytest.mark.parametrize("prefix", ["module.model_q.", ""])
def test_outputs_equal_the_published_architecture(tmp_path: Path, encoder: str, prefix: str) -> None:
    source = published(encoder, 0)
    model = ours(encoder)
    report = load_maskcontrast_checkpoint(model, saved(tmp_path / "model.pth.tar", source, prefix))
    images = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embedding, saliency = source(images)
        output = model(images)
    assert output.embedding.shape == (1, 32, 8, 10)
    assert embedding.std() > 1e-2
    torch.testing.assert_close(upsampled(output.embedding, images), embedding, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(upsampled(output.saliency, images), saliency, atol=1e-4, rtol=1e-4)
    assert report.num_loaded == len(model.state_dict())
    assert (report.format, report.unused, report.missing) == ("maskcontrast", (), ())
    assert report.supervision.startswith("unknown")


def test_momentum_network_and_queue_are_unused(tmp_path: Path) -> None:
    source, twin = published("resnet18", 0), published("resnet18", 1)
    extra = {"module.model_k." + name: value for name, value in twin.state_dict().items()}
    extra |= {"module.queue": torch.zeros(32, 8), "module.queue_ptr": torch.zeros(1)}
    path = saved(tmp_path / "checkpoint.pth.tar", source, "module.model_q.", extra)
    model = ours()
    report = load_maskcontrast_checkpoint(model, path)
    assert torch.equal(model.embedding_head.weight, source.head.weight)
    assert len(report.unused) == len(extra)
    assert f"model_k ({len(extra) - 2}), queue (1), queue_ptr (1)" in report.describe()


@pytest.mark.parametrize("prefix", ["module.model_q.", ""])
def test_encoder_alone(tmp_path: Path, prefix: str) -> None:
    source, model = published("resnet18", 0), ours(decoder="none")
    path = saved(tmp_path / "model.pth.tar", source, prefix)
    report = load_encoder_weights(model.encoder.backbone, path, encoder_name="resnet18")
    assert torch.equal(model.encoder.backbone.layer4[1].conv2.weight, source.backbone.layer4[1].conv2.weight)
    assert report.format == "maskcontrast"
    assert "classification_head.weight" in {name.removeprefix("model_q.") for name in report.unused}


def test_own_checkpoint_gives_its_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, model = ours(), ours(decoder="none")
    torch.save({"model": source.state_dict()}, tmp_path / "last.ckpt")
    report = load_encoder_weights(model.encoder.backbone, tmp_path / "last.ckpt", encoder_name="resnet18")
    assert report.format == "densessl run"
    assert torch.equal(model.encoder.backbone.conv1.weight, source.encoder.backbone.conv1.weight)


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pth.tar", published("resnet18", 0), "")
    with pytest.raises(InputError, match=r"another architecture.*choose --model.encoder resnet18 with"):
        load_maskcontrast_checkpoint(ours("resnet34"), path)
    with pytest.raises(InputError, match=r"of another shape: 2 \(embedding_head.weight .*32 embedding dimensions"):
        load_maskcontrast_checkpoint(ours(embedding_dim=16), path)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "plain.pth")
    with pytest.raises(InputError, match=r"not a published MaskContrast checkpoint.*--model.weights"):
        load_maskcontrast_checkpoint(ours(), tmp_path / "plain.pth")
