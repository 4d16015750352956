"""Vision transformers at any size: the grid, position embeddings, agreement with timm, refusals."""

import pytest
import timm
import torch
from torch.nn import functional as F

from densessl.errors import InputError
from densessl.models.encoders import build_encoder
from densessl.models.vision_transformer import VisionTransformer, resample_positions


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"])
def test_at_its_own_grid_it_is_timms_network(name: str) -> None:
    small = {} if name.startswith("test") else {"embed_dim": 32, "num_heads": 4, "depth": 2, "img_size": 112}
    backbone = timm.create_model(name, num_classes=0, dynamic_img_size=True, **small).eval()
    model = VisionTransformer(backbone)
    height, width = (side * model.patch_size for side in backbone.patch_embed.grid_size)
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        torch.testing.assert_close(model(images), backbone.forward_features(images), atol=1e-5, rtol=1e-5)
        layers = model(images, num_layers=1)
        assert not torch.allclose(layers, model(images))


def test_odd_sizes_are_padded_by_their_last_row_and_column() -> None:
    model = VisionTransformer(build_encoder("test_vit").backbone.eval())
    images = torch.randn(1, 3, 35, 50)
    with torch.no_grad():
        tokens = model(images)
        torch.testing.assert_close(tokens, model(F.pad(images, (0, 14, 0, 13), mode="replicate")))
    assert model.grid((35, 50)) == (3, 4)
    cells = model.to_grid(tokens, (35, 50))
    assert cells.shape == (1, model.dim, 3, 4)
    torch.testing.assert_close(cells[0, :, 1, 2], tokens[0, model.num_prefix_tokens + 6])
    with torch.no_grad():
        assert model(torch.randn(1, 3, 7, 5)).shape[1] == model.num_prefix_tokens + 1


@pytest.mark.parametrize("antialias", [False, True])
def test_positions_hit_the_target_size(antialias: bool) -> None:
    """Where a scale factor misses it, as 14/9 does in DINO's code without its correction of 0.1."""
    positions = torch.randn(1, 9 * 9, 4)
    for grid in ((14, 5), (9, 10), (1, 1), (37, 2)):
        resampled = resample_positions(positions, (9, 9), grid, antialias=antialias)
        laid_out = positions.reshape(1, 9, 9, 4).permute(0, 3, 1, 2)
        expected = F.interpolate(laid_out, grid, mode="bicubic", align_corners=False, antialias=antialias)
        torch.testing.assert_close(resampled.reshape(*grid, 4), expected[0].permute(1, 2, 0))
    assert resample_positions(positions, (9, 9), (9, 9), antialias=antialias) is positions


def test_a_constant_stays_constant_and_a_column_stays_in_its_column() -> None:
    positions = torch.zeros(1, 4, 4, 1)
    positions[:, :, 3] = 1
    resampled = resample_positions(positions.reshape(1, 16, 1), (4, 4), (8, 4), antialias=False).reshape(8, 4)
    torch.testing.assert_close(resampled, positions[0, :1, :, 0].expand(8, 4))


def test_networks_of_other_kinds_are_refused() -> None:
    with pytest.raises(InputError, match=r"encoder r is a ByobNet|encoder r is a ResNet"):
        VisionTransformer(build_encoder("test_resnet").backbone, "r")
    with pytest.raises(InputError, match=r"encoder v has no \[CLS\] token"):
        VisionTransformer(build_encoder("test_vit3").backbone, "v")
    with pytest.raises(InputError, match="attention of another kind"):
        VisionTransformer(timm.create_model("vit_small_patch16_18x2_224", embed_dim=32, depth=1, num_heads=2), "p")
