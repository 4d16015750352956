"""Exports of every family of encoders, and of the decoder, at sizes that they were not traced with."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from densessl.errors import InputError
from densessl.promptable.export_comparison import compare_part
from densessl.promptable.model_parts import ModelPart, Sizes, decoder_part, encoder_part
from densessl.promptable.part_export import (
    ExportFormat,
    open_onnx,
    open_program,
    trace_part,
    write_onnx,
    write_program,
)
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.tiny_vit import TinyVitShape

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

TINY_VIT = PromptableSettings(
    "mobile_sam", 64, tiny_vit=TinyVitShape((8, 16, 24, 32), (1, 0, 1, 1), (1, 2, 2, 2), (7, 7, 14, 7)), dim=32
)
"""The published vision transformer in small is exported by the fixture `exported`, and compared there."""


def backbone(name: str, *, fine_features: bool = False, neck_blocks: int = 0) -> PromptableSettings:
    small = {
        "neck_blocks": neck_blocks,
        "dim": 32,
        "decoder_depth": 1,
        "decoder_heads": 2,
        "decoder_mlp_dim": 32,
        "iou_hidden_dim": 16,
    }
    return PromptableSettings(name, 64, "stride", fine_features=fine_features, **small)  # type: ignore[arg-type]


def exported_at(part: ModelPart, sizes: tuple[Sizes, ...], folder: Path, *formats: ExportFormat) -> None:
    """Export in the formats, and compare at sizes."""
    part, program = replace(part, compared=sizes), trace_part(part)
    if "onnx" in formats:
        write_onnx(program, part, folder / "part.onnx")
        compare_part(part, open_onnx(folder / "part.onnx"), "part.onnx", 2e-5)
    if "torch_export" in formats:
        write_program(program, folder / "part.pt2")
        compare_part(part, open_program(folder / "part.pt2"), "part.pt2", 1e-6)


ENCODER_SIZES = (
    {"batch": 1, "rows": 4, "columns": 4},
    {"batch": 3, "rows": 7, "columns": 8},
    {"batch": 2, "rows": 1, "columns": 3},  # a single row of cells, windows that need no padding
    {"batch": 1, "rows": 29, "columns": 14},  # several windows of 14 along one axis, one along the other
)


def slow(settings: PromptableSettings, export_format: ExportFormat, name: str) -> object:
    return pytest.param(settings, export_format, id=f"{name}-{export_format}", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("settings", "export_format"),
    [
        pytest.param(TINY_VIT, "torch_export", id="tiny_vit-torch_export"),
        slow(TINY_VIT, "onnx", "tiny_vit"),
        pytest.param(backbone("test_resnet", fine_features=True), "onnx", id="resnet_with_fine_features-onnx"),
        pytest.param(backbone("test_resnet"), "torch_export", id="resnet-torch_export"),  # rounds sizes up
        pytest.param(backbone("test_vit"), "torch_export", id="timm_vit-torch_export"),
        slow(backbone("test_vit"), "onnx", "timm_vit"),
        slow(backbone("mobilenetv2_050"), "onnx", "mobilenet"),
        slow(backbone("mobilenetv2_050", fine_features=True), "torch_export", "mobilenet_with_fine_features"),
        slow(backbone("test_resnet", fine_features=True, neck_blocks=1), "torch_export", "resnet_with_neck_blocks"),
        slow(backbone("test_resnet", fine_features=True, neck_blocks=1), "onnx", "resnet_with_neck_blocks"),
        slow(backbone("convnext_atto"), "torch_export", "convnext"),
        slow(backbone("convnext_atto"), "onnx", "convnext"),
        slow(backbone("vit_small_patch14_dinov2"), "onnx", "patches_of_14"),
        slow(backbone("vit_small_patch8_224"), "onnx", "patches_of_8"),
    ],
)
def test_encoders_of_every_family(settings: PromptableSettings, export_format: ExportFormat, tmp_path: Path) -> None:
    torch.manual_seed(0)
    part = encoder_part(build_promptable_model(settings).eval())
    exported_at(part, ENCODER_SIZES, tmp_path, export_format)


def test_a_program_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    class Rounding(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :, : math.ceil(images.shape[2] / images.shape[3])]

    part = replace(encoder_part(build_promptable_model(backbone("test_resnet")).eval()), module=Rounding())
    with pytest.raises(InputError, match=r"part.pt2 cannot be written .* \(op .*ceil.*; .*sizes square.*formats onnx"):
        write_program(trace_part(part), tmp_path / "part.pt2")


def test_square_exports_take_any_batch(tmp_path: Path) -> None:
    model = build_promptable_model(replace(backbone("test_resnet"), padding="square")).eval()
    exported_at(encoder_part(model, "square"), ({"batch": 1}, {"batch": 3}), tmp_path, "torch_export")


@pytest.mark.slow
def test_the_decoder_with_fine_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = (
        {"batch": 1, "num_prompts": 1, "num_points": 2, "rows": 4, "columns": 4},
        {"batch": 2, "num_prompts": 5, "num_points": 0, "rows": 1, "columns": 9},
    )
    model = build_promptable_model(backbone("test_resnet", fine_features=True)).eval()
    exported_at(decoder_part(model), sizes, tmp_path, "onnx", "torch_export")


def test_a_network_whose_steps_depend_on_the_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.reshape(2, 3, 80, 176)

    part = encoder_part(build_promptable_model(backbone("test_resnet")).eval())
    with pytest.raises(InputError, match=r"the encoder cannot be traced for sizes of any length \(.*sizes square"):
        trace_part(replace(part, module=Fixed()))
    monkeypatch.setattr(torch, "__version__", "2.12.1+cu130")
    with pytest.raises(InputError, match=r"torch 2\.12\.1\+cu130 may be the reason, exports need 2\.13 or newer"):
        trace_part(replace(part, module=Fixed()))


@pytest.mark.slow
def test_the_published_measures_of_vit_b(tmp_path: Path) -> None:
    """Windows of 14, images of the published size; 1e-4 is what the command holds every export to."""
    torch.manual_seed(0)
    model = build_promptable_model(PromptableSettings()).eval()
    with torch.no_grad():
        for parameter in model.image_encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # relative positions begin at zero
    sizes = ({"batch": 1, "rows": 64, "columns": 64}, {"batch": 2, "rows": 28, "columns": 17})
    part = replace(encoder_part(model), compared=sizes)
    write_onnx(trace_part(part), part, tmp_path / "encoder.onnx")
    compare_part(part, open_onnx(tmp_path / "encoder.onnx"), "encoder.onnx")


@pytest.mark.slow
def test_the_published_measures_of_the_decoder(tmp_path: Path) -> None:
    """256 channels, 8 heads, perceptrons of 2048, on the grid of 1024 px and on another; to 1e-4 as above."""
    torch.manual_seed(0)
    settings = PromptableSettings("test_resnet", 1024)
    assert (settings.dim, settings.decoder_heads, settings.decoder_mlp_dim) == (256, 8, 2048)
    model = build_promptable_model(settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # some begin at zero
    sizes = (
        {"batch": 1, "num_prompts": 2, "num_points": 3, "rows": 64, "columns": 64},
        {"batch": 2, "num_prompts": 5, "num_points": 0, "rows": 28, "columns": 17},
    )
    part = replace(decoder_part(model), compared=sizes)
    write_onnx(trace_part(part), part, tmp_path / "decoder.onnx")
    compare_part(part, open_onnx(tmp_path / "decoder.onnx"), "decoder.onnx", 1e-4)
