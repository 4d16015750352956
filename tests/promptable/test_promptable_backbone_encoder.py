"""Features of a backbone brought to the grid of the image embedding."""

import pytest
import torch

from densessl.promptable.backbone_encoder import area_means


@pytest.mark.parametrize("given", [(6, 11), (8, 4), (23, 5), (7, 7), (2, 4)])
@pytest.mark.parametrize("wanted", [(5, 4), (1, 3), (2, 2)])
def test_means_over_areas_are_those_of_adaptive_pooling(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *given, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.nn.functional.adaptive_avg_pool2d(features, wanted)
    torch.testing.assert_close(area_means(features, wanted), expected)
