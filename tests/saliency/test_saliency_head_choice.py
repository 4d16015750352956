"""Which head agrees best with the default masks: planted attention, the record, and what cannot be chosen by."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from densessl.data.image_folder import open_image_folder
from densessl.errors import InputError
from densessl.models.encoders import build_encoder
from densessl.saliency import attention_saliency, head_choice
from densessl.saliency.generation import generate_proposals
from densessl.saliency.head_choice import ious_of_heads, settle_head
from densessl.saliency.proposals import SaliencySettings, propose
from densessl.structures import ImageProposals, ImageSet, Rejection


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    torch.manual_seed(0)
    save_file(build_encoder("test_vit").backbone.state_dict(), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Three images with a block of another colour, 80x96 and 96x80 by turns, and one that is broken."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        size = (80, 96) if number % 2 == 0 else (96, 80)
        image = np.random.default_rng(number).integers(40, 60, (*size, 3), dtype=np.uint8)
        image[24:64, 24:64] += np.uint8(140)
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), image)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    return open_image_folder(tmp_path / "in")


def planted(image: np.ndarray, features: object, layer: int) -> np.ndarray:
    """Return three heads on cells of 8 pixels: an even one, one that looks at the block, one that looks elsewhere."""
    height, width = image.shape[0] // 8, image.shape[1] // 8
    heads = np.full((3, height, width), 0.001, np.float32)
    heads[1, 3:8, 3:8] = 0.04
    heads[2, :2] = 0.04
    return heads


def settings_for(weights: Path, **changes: object) -> SaliencySettings:
    given = {"refine": "none", "feature_size_px": 128, "attention_head": "best", **changes}
    return SaliencySettings(method="attention", encoder="test_vit", weights=weights, **given)


def test_the_head_that_looks_at_the_things_is_taken_and_recorded(
    images: ImageSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_choice, "attention_of_heads", planted)
    out = tmp_path / "out"
    settings = settings_for(weights, attention_mass=0.9)
    settled = settle_head(images, out, settings)
    assert settled.attention_head == 1
    record = json.loads((out / "attention_head.json").read_text())
    assert record["head"] == 1
    assert record["images"] == ["0", "1", "2"]
    assert len(record["iou_with_default_masks"]) == 3
    assert record["iou_with_default_masks"][1] == max(record["iou_with_default_masks"]) > 0.7
    assert record["made_from"]["masks"] == {"method": "fused", "min_area": 0.01, "refine": "colour_models"}
    monkeypatch.setattr(head_choice, "attention_of_heads", None)  # a later call reads what was found
    assert settle_head(images, out, settings) == settled
    with pytest.raises(InputError, match="holds the choice of a head for another encoder, layer, share or size"):
        settle_head(images, out, settings_for(weights, attention_mass=0.5))


def test_ious_equal_a_loop(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_choice, "attention_of_heads", planted)
    image = np.zeros((64, 72, 3), np.uint8)
    foreground = np.zeros((64, 72), bool)
    foreground[20:60, 20:60] = True
    settings = settings_for(weights, attention_mass=0.9)
    found = ious_of_heads(image, foreground, settings)
    for head, value in zip(planted(image, None, -1), found, strict=True):
        grid = attention_saliency.soft_attention(head, 0.9)
        kept = cv2.resize(grid, (72, 64), interpolation=cv2.INTER_LINEAR) > 0.5
        assert value == pytest.approx((kept & foreground).sum() / (kept | foreground).sum(), abs=1e-3)


def test_proposals_are_those_of_the_head_that_was_chosen(images: ImageSet, weights: Path, tmp_path: Path) -> None:
    generate_proposals(images, tmp_path / "best", settings_for(weights), num_workers=0)
    head = json.loads((tmp_path / "best/attention_head.json").read_text())["head"]
    assert json.loads((tmp_path / "best/saliency.json").read_text())["settings"]["attention_head"] == head
    summary = generate_proposals(images, tmp_path / "best", settings_for(weights), num_workers=0)
    assert summary.num_reused == 3  # the broken image is tried again
    settings = settings_for(weights, attention_head=head)
    for ref in images.images[:3]:
        image = cv2.cvtColor(cv2.imread(str(ref.path)), cv2.COLOR_BGR2RGB)
        stored = cv2.imread(str(tmp_path / "best/masks" / f"{ref.stem}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stored > 0, propose(image, ref.stem, settings).foreground)


def test_an_image_on_which_the_default_fails_is_left_out(
    images: ImageSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_on_one(pixels: np.ndarray, stem: str, settings: SaliencySettings) -> ImageProposals | Rejection:
        if stem == "1":
            raise np.linalg.LinAlgError("Singular matrix")
        return propose(pixels, stem, settings)

    monkeypatch.setattr(head_choice, "propose", fails_on_one)
    settle_head(images, tmp_path / "out", settings_for(weights))
    assert json.loads((tmp_path / "out/attention_head.json").read_text())["images"] == ["0", "2"]


def test_an_error_of_the_program_names_the_image(
    images: ImageSet, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr(head_choice, "propose", fails)
    with pytest.raises(TypeError) as raised:
        settle_head(images, tmp_path / "out", settings_for(weights))
    assert raised.value.__notes__[0].startswith("while working on image 0 (")


def test_other_settings_are_returned_as_they_are(images: ImageSet, weights: Path, tmp_path: Path) -> None:
    for settings in (SaliencySettings(), settings_for(weights, attention_head=2)):
        assert settle_head(images, tmp_path / "out", settings) is settings
    assert not (tmp_path / "out").exists()


def test_no_default_mask_to_choose_by(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="none of 1 images has a default mask to choose a head by"):
        settle_head(open_image_folder(tmp_path / "in"), tmp_path / "out", settings_for(weights))
