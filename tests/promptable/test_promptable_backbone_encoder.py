"""Features of a backbone brought to the grid of the image embedding."""

import pytest
import torch

from densessl.errors import InputError
from densessl.models.encoders import Encoder
from densessl.promptable.backbone_encoder import BackboneEncoder, area_means, build_backbone_encoder


@pytest.mark.parametrize("given", [(6, 11), (8, 4), (23, 5), (7, 7), (2, 4)])
@pytest.mark.parametrize("wanted", [(5, 4), (1, 3), (2, 2)])
def test_means_over_areas_are_those_of_adaptive_pooling(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *given, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.nn.functional.adaptive_avg_pool2d(features, wanted)
    torch.testing.assert_close(area_means(features, wanted), expected)


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("convnext_atto", 16),
        ("swin_tiny_patch4_window7_224", 32),  # channels last
        ("pvt_v2_b0", 32),
        ("efficientvit_b0", 32),
        ("vit_small_patch32_224", 32),
        ("xcit_nano_12_p8_224", 8),  # tokens of a network that takes no option
    ],
)
def test_backbones_of_any_stride_are_brought_to_the_grid(name: str, stride: int) -> None:
    torch.manual_seed(0)
    encoder = build_backbone_encoder(name, 8).eval()
    assert encoder.encoder.stride == stride
    for size in ((64, 64), (48, 80)):
        with torch.no_grad():
            embedding = encoder(torch.randn(1, 3, *size))
        assert embedding.shape == (1, 8, size[0] // 16, size[1] // 16)
        assert embedding.isfinite().all()


def test_finer_maps_of_a_coarse_backbone_are_on_the_grid_too() -> None:
    encoder = build_backbone_encoder("pvt_v2_b0", 16, has_fine_features=True).eval()
    with torch.no_grad():
        last, eighth, quarter = encoder.features(torch.randn(1, 3, 48, 80))
        assert encoder.join((last, eighth, quarter)).shape == (1, 64, 3, 5)
    assert eighth.shape[-2:] == (6, 10)
    assert quarter.shape[-2:] == (12, 20)


def test_cells_of_a_coarse_map_lie_where_their_pixels_are() -> None:
    class Means(torch.nn.Module):
        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(images, 32)

    encoder = BackboneEncoder(Encoder(Means(), 3, 32), 8)
    images = torch.arange(80.0)[:, None].expand(1, 3, 80, 64)  # two cells and a half, down the image
    (features,) = encoder.features(images)
    assert features.shape == (1, 3, 5, 4)
    expected = torch.nn.functional.avg_pool2d(images, 16)
    torch.testing.assert_close(features[:, :, 1:3], expected[:, :, 1:3])  # those between centres of whole cells


def test_a_backbone_for_one_size_is_told() -> None:
    with pytest.raises(InputError, match=r"'test_vit_relpos' cannot encode images of any size .*doesn't match model"):
        build_backbone_encoder("test_vit_relpos", 8)
    with pytest.raises(InputError, match="'nosuchnet' is not a timm model name"):
        build_backbone_encoder("nosuchnet", 8)
