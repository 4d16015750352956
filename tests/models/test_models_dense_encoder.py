"""Encoders by timm name: their weights, their own normalisation, what is said of them."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from densessl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from densessl.errors import InputError, MissingInputError
from densessl.models.dense_encoder import RenormalisedEncoder, TimmSource, state_sha256, timm_encoder
from densessl.models.encoders import patch_note

CPU = torch.device("cpu")


def _images(size: tuple[int, int] = (32, 48)) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "dim", "grid"), [("test_resnet", 96, (4, 6)), ("test_vit", 64, (2, 3))])
def test_random_weights_are_the_same_each_time_and_said_to_be_random(
    name: str, dim: int, grid: tuple[int, int]
) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (timm_encoder(TimmSource(name, seed=seed), CPU) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.description.startswith(
        f"{name}, random weights (seed 0), stride {32 // grid[0]}, mean 0.485/0.456/0.406"
    )
    assert one.supervision == "none (random weights)"
    features = one.function(_images())
    assert features.shape == (2, dim, *grid)
    assert not features.requires_grad
    assert torch.equal(features, same.function(_images()))


def test_weights_of_a_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=1000).eval()
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    encoder = timm_encoder(TimmSource("test_resnet", output_stride=32, weights=path), CPU)
    with torch.no_grad():
        expected = network.forward_features(_images())
    assert torch.allclose(encoder.function(_images()), expected, atol=1e-5)
    assert encoder.supervision.startswith("ImageNet labels, inferred from timm tensor names")
    assert "weights weights.safetensors" in encoder.description
    assert encoder.fingerprint == __import__("hashlib").sha256(path.read_bytes()).hexdigest()


def test_a_networks_own_normalisation(tmp_path: Path) -> None:
    """The network sees (x - its mean) / its std of the image in [0, 1], whatever ImageNet's are."""
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    seen: list[torch.Tensor] = []

    class Recorder(torch.nn.Module):
        stride, has_patches = 1, True

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images

    RenormalisedEncoder(Recorder(), (0.5, 0.4, 0.3), (0.5, 0.25, 1.0))((pixels - mean) / std)  # type: ignore[arg-type]
    own_mean, own_std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.5, 0.4, 0.3), (0.5, 0.25, 1.0)))
    assert torch.allclose(seen[0], (pixels - own_mean) / own_std, atol=1e-5)
    given = (pixels - mean) / std
    RenormalisedEncoder(Recorder(), IMAGENET_MEAN, IMAGENET_STD)(given)  # type: ignore[arg-type]
    assert seen[1] is given  # bit for bit


def test_the_cells_of_a_transformer_cover_the_image_exactly() -> None:
    class Patches(torch.nn.Module):
        stride, has_patches = 14, True

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(images, 14, ceil_mode=True)

    encoder = RenormalisedEncoder(Patches(), IMAGENET_MEAN, IMAGENET_STD)  # type: ignore[arg-type]
    rows, columns = (torch.arange(side) / side + 0.5 / side for side in (45, 60))
    images = torch.stack([rows[:, None] + 0 * columns, columns + 0 * rows[:, None], torch.zeros(45, 60)])[None]
    features = encoder(images)[0]
    assert features.shape == (3, 3, 4)
    assert torch.allclose(features[0], ((torch.arange(3) + 0.5) / 3)[:, None].expand(3, 4), atol=2e-3)
    assert torch.allclose(features[1], ((torch.arange(4) + 0.5) / 4).expand(3, 4), atol=2e-3)
    assert encoder(torch.zeros(1, 3, 5, 42)).shape == (1, 3, 1, 3)
    assert patch_note(encoder.encoder) == ", images brought to multiples of 14 px"
    whole = timm_encoder(TimmSource("test_vit"), CPU)  # patches of 16
    assert whole.function(_images((33, 50))).shape == (2, 64, 2, 3)
    assert "multiples" not in whole.description


@pytest.mark.parametrize(
    ("name", "normalisation", "mean"),
    [
        ("test_vit.r160_in1k", "auto", "0.5/0.5/0.5"),
        ("test_vit", "auto", "0.485/0.456/0.406"),
        ("test_vit", "timm", "0.5/0.5/0.5"),
        ("test_vit.r160_in1k", "imagenet", "0.485/0.456/0.406"),
    ],
)
def test_which_normalisation_a_file_gets(name: str, normalisation: str, mean: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    recorded = timm.create_model("test_vit").pretrained_cfg["mean"]
    if tuple(recorded) != (0.5, 0.5, 0.5):
        pytest.skip(f"this timm records {recorded} for test_vit")
    source = TimmSource(name, weights=path, normalisation=normalisation)  # type: ignore[arg-type]
    assert f"mean {mean}, std" in timm_encoder(source, CPU).description


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'resnet1' is not a timm model name"):
        timm_encoder(TimmSource("resnet1"), CPU)
    with pytest.raises(InputError, match=r"given both weights .*w.pth and pretrained true"):
        timm_encoder(TimmSource("test_resnet", weights=tmp_path / "w.pth", pretrained=True), CPU)
    with pytest.raises(MissingInputError, match=r"no checkpoint file"):
        timm_encoder(TimmSource("test_resnet", weights=tmp_path / "w.pth"), CPU)


def test_the_hash_of_a_state_sees_names_shapes_and_values() -> None:
    def network(bias: float, width: int = 2) -> torch.nn.Module:
        layer = torch.nn.Linear(width, 2)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, bias)
        return layer

    hashes = {state_sha256(item) for item in (network(0), network(1), network(0, 3), torch.nn.Sequential(network(0)))}
    assert len(hashes) == 4
    assert state_sha256(network(0)) == state_sha256(network(0))
