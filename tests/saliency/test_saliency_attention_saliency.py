"""Saliency by attention: against `densessl.attention` itself, the split of the map, records, and refusals."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from densessl.attention.maps import attention_maps
from densessl.attention.mass import mass_mask
from densessl.data.image_folder import open_image_folder
from densessl.errors import InputError
from densessl.models.dense_encoder import TimmSource
from densessl.models.encoders import build_encoder
from densessl.models.vision_encoder import open_vision_encoder
from densessl.saliency.attention_saliency import attention_of_heads, soft_attention
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings, estimate
from densessl.structures import ImageRef, ImageSet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small vision transformer, in timm's format; read only."""
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    torch.manual_seed(0)
    save_file(build_encoder("test_vit").backbone.state_dict(), path)
    return path


def settings_for(weights: Path, **changes: object) -> SaliencySettings:
    given = {"refine": "none", "feature_size_px": 160, "attention_head": 0, **changes}
    return SaliencySettings(method="attention", encoder="test_vit", weights=weights, **given)


def draw(height: int = 96, width: int = 160) -> np.ndarray:
    image = np.random.default_rng(0).integers(40, 90, (height, width, 3), dtype=np.uint8)
    image[30:70, 90:140] += np.uint8(120)
    return image


@pytest.mark.parametrize("layer", [-1, 0])
def test_heads_are_those_of_attention_maps(weights: Path, layer: int) -> None:
    image = draw()  # whole patches at 160 pixels, so that nothing is resized
    encoder = open_vision_encoder(TimmSource("test_vit", weights=weights), torch.device("cpu"))
    pixels = encoder.normalise(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    expected = attention_maps(encoder.transformer, pixels, (layer,)).maps[0, 0]
    np.testing.assert_allclose(attention_of_heads(image, settings_for(weights).features, layer), expected, atol=1e-6)
    for head, wanted in ((1, expected[1]), ("mean", expected.mean(dim=0))):
        settings = settings_for(weights, attention_layer=layer, attention_head=head, attention_mass=0.4)
        soft = estimate(image, settings)
        assert soft.shape == image.shape[:2]
        assert 0 <= soft.min() < 0.5 < soft.max() <= 1
        grid = soft_attention(wanted.numpy(), 0.4)
        np.testing.assert_array_equal(grid > 0.5, mass_mask(wanted, 0.4).numpy())
        enlarged = np.clip(cv2.resize(grid, (160, 96), interpolation=cv2.INTER_LINEAR), 0, 1)
        np.testing.assert_allclose(soft, enlarged, atol=1e-4)


@pytest.mark.parametrize("mass", [0.1, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("num_values", [2, 5, 1000])
def test_what_holds_the_share_is_above_one_half_also_where_values_are_equal(mass: float, num_values: int) -> None:
    attention = np.random.default_rng(0).integers(1, num_values + 1, (7, 9)).astype(np.float32) / 1000
    soft = soft_attention(attention, mass)
    np.testing.assert_array_equal(soft > 0.5, mass_mask(torch.from_numpy(attention), mass).numpy())
    assert 0 <= soft.min() <= soft.max() <= 1


def test_an_even_map_and_an_image_of_one_colour(weights: Path) -> None:
    even = np.full((4, 5), 0.05, np.float32)
    np.testing.assert_array_equal(soft_attention(even, 0.6) > 0.5, mass_mask(torch.from_numpy(even), 0.6).numpy())
    assert not estimate(np.full((40, 30, 3), 90, np.uint8), settings_for(weights)).any()


def test_the_record_names_the_weights_and_their_labels(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "0.png"), draw())
    images = open_image_folder(tmp_path / "in")
    generate_proposals(images, tmp_path / "out", settings_for(weights), num_workers=0)
    record = json.loads((tmp_path / "out/saliency.json").read_text())
    assert len(record["features"]["weights_sha256"]) == 64
    assert "unknown" in record["features"]["supervision"]
    assert record["settings"]["attention_head"] == 0
    with pytest.raises(InputError, match="attention_head 0 there, 1 now"):
        generate_proposals(images, tmp_path / "out", settings_for(weights, attention_head=1), num_workers=0)


def test_a_convolutional_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.safetensors"
    save_file(build_encoder("test_resnet").backbone.state_dict(), path)
    settings = SaliencySettings(method="attention", encoder="test_resnet", weights=path, attention_head=0)
    with pytest.raises(InputError, match=r"method attention needs attention of a \[CLS\] token.*test_resnet"):
        estimate(draw(), settings)


def test_no_such_head_or_layer_is_found_before_the_first_image(weights: Path, tmp_path: Path) -> None:
    images = ImageSet("drawn", (ImageRef("a", tmp_path / "a.png"),))
    for settings in (settings_for(weights, attention_head=99), settings_for(weights, attention_layer=50)):
        with pytest.raises(InputError, match="does not exist"):
            generate_proposals(images, tmp_path / "out", settings, 0)
    assert not (tmp_path / "out/saliency.json").exists()


def test_no_such_head_or_layer(weights: Path) -> None:
    with pytest.raises(InputError, match="attention_head 99 does not exist; the layer has heads 0 to"):
        estimate(draw(), settings_for(weights, attention_head=99))
    with pytest.raises(InputError, match="layer 50 does not exist"):
        estimate(draw(), settings_for(weights, attention_layer=50))
    with pytest.raises(InputError, match="attention_head best is chosen over a folder"):
        estimate(draw(), settings_for(weights, attention_head="best"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_mass": 0.0}, "attention_mass 0.0 is not a share"),
        ({"attention_head": -1}, "attention_head -1 is negative"),
        ({"attention_head": "worst"}, "attention_head 'worst' is unknown"),
        ({"weights": None}, "works on features of encoder test_vit, which has random weights"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    given = {"method": "attention", "encoder": "test_vit", "weights": Path("a.pth"), **changes}
    with pytest.raises(InputError, match=message):
        SaliencySettings(**given)
