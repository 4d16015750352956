"""TinyViT under MobileSAM's names, its arithmetic against timm's network of the same family."""

import re
from pathlib import Path

import pytest
import timm
import torch
from published_sam import randomise, small_sam

from densessl.errors import InputError
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import load_promptable_model
from densessl.promptable.tiny_vit import TinyVit, TinyVitShape, distance_index

SMALL = TinyVitShape((16, 32, 40, 80), (1, 1, 2, 1), (2, 2, 4, 5), (7, 3, 5, 3))


def timm_name(name: str) -> str:
    """Say what timm calls a tensor of TinyViT; there the step between stages opens the next stage."""
    name = re.sub(r"^patch_embed\.seq\.0\.", "patch_embed.conv1.", name)
    name = re.sub(r"^patch_embed\.seq\.2\.", "patch_embed.conv2.", name)
    name = re.sub(r"^layers\.(\d)\.downsample\.", lambda match: f"stages.{int(match[1]) + 1}.downsample.", name)
    name = re.sub(r"^layers\.", "stages.", name)
    return re.sub(r"\.c\.weight$", ".conv.weight", name)


@pytest.mark.parametrize(("shape", "size"), [(SMALL, (96, 64)), (SMALL, (80, 112)), (TinyVitShape(), (224, 160))])
def test_features_are_those_of_timm(shape: TinyVitShape, size: tuple[int, int]) -> None:
    """timm halves the grid before the last stage too; there MobileSAM does not (its stride is set to 1 here)."""
    torch.manual_seed(0)
    ours = TinyVit(shape, 256)
    randomise(ours)
    theirs = timm.models.tiny_vit.TinyVit(
        embed_dims=shape.dims,
        depths=shape.depths,
        num_heads=shape.num_heads,
        window_sizes=shape.windows,
        num_classes=0,
    )
    theirs.stages[3].downsample.conv2.conv.stride = (1, 1)
    state = {timm_name(name): value for name, value in ours.state_dict().items() if not name.startswith("neck.")}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("head.") for name in missing)
    ours.eval()
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    found: list[torch.Tensor] = []
    ours.neck.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    with torch.no_grad():
        assert ours(images).shape == (2, 256, size[0] // 16, size[1] // 16)
        torch.testing.assert_close(found[0], theirs.eval().forward_features(images), rtol=1e-5, atol=1e-5)


def test_distances_are_numbered_as_they_first_occur() -> None:
    """So the published weights number them: going through the pairs of cells, a new distance gets the next number."""
    cells = [(y, x) for y in range(4) for x in range(4)]
    numbers: dict[tuple[int, int], int] = {}
    expected = [[numbers.setdefault((abs(y - v), abs(x - u)), len(numbers)) for v, u in cells] for y, x in cells]
    assert distance_index(4).tolist() == expected


def mobile_sam_state() -> dict[str, torch.Tensor]:
    """A state dict with the names of mobile_sam.pt, the classifier included, and a small encoder."""
    model = build_promptable_model(PromptableSettings("mobile_sam", 1024, tiny_vit=SMALL))
    randomise(model)
    state = dict(model.state_dict())
    state["image_encoder.norm_head.weight"] = torch.ones(80)
    state["image_encoder.norm_head.bias"] = torch.zeros(80)
    state["image_encoder.head.weight"] = torch.zeros(1000, 80)
    state["image_encoder.head.bias"] = torch.zeros(1000)
    return state


def test_a_mobile_sam_file_is_recognised_and_its_classifier_reported(tmp_path: Path) -> None:
    state = mobile_sam_state()
    torch.save(state, tmp_path / "mobile_sam.pt")
    model, report = load_promptable_model(tmp_path / "mobile_sam.pt")
    assert model.settings == PromptableSettings("mobile_sam", 1024, tiny_vit=SMALL)
    assert report.format == "MobileSAM"
    assert report.unused == tuple(name for name in state if "head." in name and name.startswith("image_encoder."))
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


def test_the_published_measures_have_the_published_names() -> None:
    """Names and shapes that stand in mobile_sam.pt, one of each kind."""
    shapes = {name: tuple(value.shape) for name, value in TinyVit(TinyVitShape(), 256).state_dict().items()}
    assert shapes["patch_embed.seq.0.c.weight"] == (32, 3, 3, 3)
    assert shapes["patch_embed.seq.2.bn.running_var"] == (64,)
    assert shapes["layers.0.blocks.1.conv2.c.weight"] == (256, 1, 3, 3)
    assert shapes["layers.0.downsample.conv1.c.weight"] == (128, 64, 1, 1)
    assert shapes["layers.1.blocks.0.attn.attention_biases"] == (4, 49)
    assert shapes["layers.2.blocks.5.attn.qkv.weight"] == (480, 160)
    assert shapes["layers.2.blocks.5.attn.attention_biases"] == (5, 196)
    assert shapes["layers.2.downsample.conv2.c.weight"] == (320, 1, 3, 3)
    assert shapes["layers.3.blocks.1.mlp.fc2.weight"] == (320, 1280)
    assert shapes["layers.3.blocks.1.local_conv.bn.weight"] == (320,)
    assert shapes["neck.0.weight"] == (256, 320, 1, 1)
    assert shapes["neck.3.bias"] == (256,)
    assert not any("bias_index" in name for name in shapes)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    state = mobile_sam_state()
    del state["image_encoder.layers.3.blocks.0.mlp.fc2.bias"]
    torch.save(state, tmp_path / "mobile_sam.pt")
    with pytest.raises(InputError, match=r"tensors 1 missing \(image_encoder.layers.3.blocks.0.mlp.fc2.bias\)"):
        load_promptable_model(tmp_path / "mobile_sam.pt")


def test_the_decoder_of_a_mobile_sam_file_is_sams(tmp_path: Path) -> None:
    """MobileSAM keeps SAM's prompt encoder and decoder: their tensors may come from either."""
    sam = small_sam(seed=3)
    state = mobile_sam_state()
    state |= {name: value for name, value in sam.state_dict().items() if not name.startswith("image_encoder.")}
    torch.save(state, tmp_path / "mobile_sam.pt")
    model, _ = load_promptable_model(tmp_path / "mobile_sam.pt")
    assert torch.equal(model.mask_decoder.iou_token.weight, sam.mask_decoder.iou_token.weight)


def test_measures_of_another_encoder_are_refused() -> None:
    with pytest.raises(InputError, match=r"model.tiny_vit is .*, but model.encoder is resnet18"):
        PromptableSettings("resnet18", tiny_vit=SMALL)
