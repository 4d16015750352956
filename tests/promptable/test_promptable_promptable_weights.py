"""Files of promptable models: what is read, what is written, and what is said of the others."""

import json
from pathlib import Path

import pytest
import torch
from published_sam import small_sam
from safetensors.torch import save_file
from segment_anything.modeling import Sam

from densessl.errors import InputError, MissingInputError
from densessl.models.encoders import build_encoder
from densessl.models.mask_contrast_model import ModelSettings, build_model
from densessl.models.network_file import save_network
from densessl.promptable.backbone_encoder import BackboneEncoder
from densessl.promptable.promptable_model import build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.promptable.promptable_weights import (
    encoder_of_run,
    load_backbone_weights,
    load_promptable_model,
    save_promptable_model,
)
from densessl.promptable.sam_architecture import recognise_architecture
from densessl.promptable.vision_transformer import VIT_B, VIT_H, VIT_L, VisionTransformer, VisionTransformerShape
from densessl.training.run_folder import save_weights

BACKBONE = PromptableSettings("resnet18", 64, padding="stride", dim=32, decoder_heads=2)


def test_a_published_file_loads_unchanged(published: Sam, published_file: Path) -> None:
    model, report = load_promptable_model(published_file)
    state = published.state_dict()
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.settings == PromptableSettings(
        "vision_transformer", 256, vision_transformer=VisionTransformerShape(64, 4, 4, (1, 3), 256, window=7)
    )
    assert (report.format, report.num_loaded, report.missing, report.unused) == ("SAM", len(state), (), ())
    assert not model.training


@pytest.mark.parametrize(("shape", "name"), [(VIT_B, "sam_vit_b"), (VIT_L, "sam_vit_l"), (VIT_H, "sam_vit_h")])
def test_the_published_encoders_are_known_by_their_shapes(shape: VisionTransformerShape, name: str) -> None:
    with torch.device("meta"):
        decoder = build_promptable_model(PromptableSettings("resnet18"))
        encoder = VisionTransformer(shape, 1024, 256)
    state = {f"image_encoder.{key}": value for key, value in encoder.state_dict().items()}
    state |= {key: value for key, value in decoder.state_dict().items() if not key.startswith("image_encoder.")}
    assert recognise_architecture(state, Path("sam.pth")) == PromptableSettings(name, 1024)


def test_our_own_file_comes_back_with_its_settings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for settings in (
        BACKBONE,
        PromptableSettings(
            "vision_transformer", 64, vision_transformer=VisionTransformerShape(32, 2, 2, (1,), 64, window=3)
        ),
    ):
        model = build_promptable_model(settings)
        save_promptable_model(tmp_path / "m.safetensors", model, "none (random weights)")
        loaded, report = load_promptable_model(tmp_path / "m.safetensors")
        assert loaded.settings == settings
        assert report.supervision == "none (random weights)"
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_missing_unexpected_and_misshapen_tensors_are_named(published: Sam, tmp_path: Path) -> None:
    state = dict(published.state_dict())
    state["mask_decoder.mask_tokens_hq.weight"] = torch.zeros(1)
    del state["image_encoder.blocks.2.attn.proj.bias"]
    state["prompt_encoder.not_a_point_embed.weight"] = torch.zeros(1, 3)
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(InputError) as error:
        load_promptable_model(tmp_path / "sam.pth")
    for part in (
        "1 missing (image_encoder.blocks.2.attn.proj.bias)",
        "1 unexpected (mask_decoder.mask_tokens_hq.weight)",
        "1 of another shape (prompt_encoder.not_a_point_embed.weight (1, 3) instead of (1, 256))",
        "download or export it again",
    ):
        assert part in str(error.value)


def test_files_of_other_kinds_are_told(published: Sam, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no checkpoint file"):
        load_promptable_model(tmp_path / "none.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other.pth is no promptable model"):
        load_promptable_model(tmp_path / "other.pth")
    torch.save(published, tmp_path / "pickled.pth")  # a whole network, which only its code can read
    with pytest.raises(InputError, match="reading it could run code"):
        load_promptable_model(tmp_path / "pickled.pth")
    cut = {name: value for name, value in published.state_dict().items() if "iou_prediction_head" not in name}
    torch.save(cut, tmp_path / "cut.pth")
    with pytest.raises(InputError, match=r"measures cannot be told: .*iou_prediction_head.layers.0.weight"):
        load_promptable_model(tmp_path / "cut.pth")
    broken = {name: value.clone() for name, value in published.state_dict().items()}
    broken["mask_decoder.iou_token.weight"][0, 0] = torch.nan
    torch.save(broken, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"not finite in 1 tensors \(mask_decoder.iou_token.weight\)"):
        load_promptable_model(tmp_path / "nan.pth")


@pytest.mark.parametrize(
    "header",
    [
        "text",
        {"settings": {}},
        {"settings": {"encoder": "x"}, "supervision": "none"},
        {"settings": 3, "supervision": "x"},
    ],
)
def test_a_header_that_makes_no_sense_is_told(tmp_path: Path, header: object) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"promptable_model": json.dumps(header)})
    with pytest.raises(InputError, match=r"header of promptable model .* get or train it anew"):
        load_promptable_model(tmp_path / "m.safetensors")


def test_the_encoder_of_a_run_becomes_promptable(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = build_model(ModelSettings("resnet18", decoder="none"))
    save_weights(tmp_path / "final.safetensors", run.state_dict(), ModelSettings("resnet18", decoder="none"))
    assert encoder_of_run(tmp_path / "final.safetensors") == "resnet18"
    model = build_promptable_model(BACKBONE)
    report = load_backbone_weights(model, tmp_path / "final.safetensors")
    assert report.format == "densessl run"
    assert isinstance(model.image_encoder, BackboneEncoder)
    backbone = model.image_encoder.encoder.backbone.state_dict()
    assert all(torch.equal(value, backbone[name]) for name, value in run.encoder.backbone.state_dict().items())


def test_the_encoder_of_a_promptable_model_keeps_its_history(tmp_path: Path) -> None:
    torch.manual_seed(0)
    taught = build_promptable_model(BACKBONE)
    save_promptable_model(str(tmp_path / "taught.safetensors"), taught, "masks of a friend")
    model = build_promptable_model(BACKBONE)
    assert load_backbone_weights(model, tmp_path / "taught.safetensors").supervision == "masks of a friend"
    assert isinstance(model.image_encoder, BackboneEncoder)
    assert isinstance(taught.image_encoder, BackboneEncoder)
    backbone = model.image_encoder.encoder.backbone.state_dict()
    origin = taught.image_encoder.encoder.backbone.state_dict()
    assert all(torch.equal(value, backbone[name]) for name, value in origin.items())


def test_a_name_that_could_not_be_read_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.pth ends in '.pth'; let its name end in .safetensors"):
        save_promptable_model(tmp_path / "model.pth", build_promptable_model(BACKBONE), "none")
    with pytest.raises(InputError, match="is a folder; give the file in it"):
        load_promptable_model(tmp_path)


def test_an_encoder_does_not_go_into_sams(tmp_path: Path) -> None:
    torch.save(build_encoder("resnet18").backbone.state_dict(), tmp_path / "resnet.pth")
    model = build_promptable_model(
        PromptableSettings("vision_transformer", 64, vision_transformer=VisionTransformerShape(32, 1, 2, (), 64))
    )
    with pytest.raises(InputError, match="no timm backbone; name the backbone that the file holds"):
        load_backbone_weights(model, tmp_path / "resnet.pth")
    save_network(tmp_path / "odd.safetensors", {"x": torch.zeros(1)}, "model_settings", {"decoder": "none"})
    with pytest.raises(InputError, match="names no encoder"):
        encoder_of_run(tmp_path / "odd.safetensors")


def test_wrapped_state_dicts_are_found(tmp_path: Path) -> None:
    sam = small_sam(seed=1)
    torch.save({"model": {f"module.{name}": value for name, value in sam.state_dict().items()}}, tmp_path / "sam.pth")
    model, _ = load_promptable_model(tmp_path / "sam.pth")
    assert torch.equal(model.image_encoder.pos_embed, sam.image_encoder.pos_embed)
