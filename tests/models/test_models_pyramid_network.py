"""The feature pyramid sums its levels as the paper says, and gives logits of an image's size."""

import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from densessl.models.pyramid_network import PYRAMID_CHANNELS, PyramidDecoder, PyramidNetwork

CHANNELS = [8, 16, 24]


def make_decoder() -> PyramidDecoder:
    torch.manual_seed(0)
    decoder = PyramidDecoder(CHANNELS).eval()
    decoder.smooth = nn.Sequential()  # the sum alone
    return decoder


def make_levels(*, is_flat: bool) -> list[torch.Tensor]:
    torch.manual_seed(1)
    levels = [torch.randn(2, channels, 16 >> k, 24 >> k) for k, channels in enumerate(CHANNELS)]
    return [level.mean((2, 3), keepdim=True).expand_as(level) for level in levels] if is_flat else levels


def test_levels_are_summed_as_in_torchvision() -> None:
    """Torchvision enlarges by nearest neighbours, which on flat levels is the same."""
    decoder, levels = make_decoder(), make_levels(is_flat=True)
    other = FeaturePyramidNetwork(CHANNELS, PYRAMID_CHANNELS)
    for inner, block, lateral in zip(other.inner_blocks, other.layer_blocks, decoder.lateral, strict=True):
        inner[0].load_state_dict(lateral.state_dict())
        block[0] = nn.Identity()
    expected = other({str(number): level for number, level in enumerate(levels)})["0"]
    torch.testing.assert_close(decoder(levels), expected)


def test_a_mirrored_pyramid_has_the_mirrored_sum() -> None:
    decoder, levels = make_decoder(), make_levels(is_flat=False)
    torch.testing.assert_close(decoder([level.flip(3) for level in levels]), decoder(levels).flip(3))


def test_logits_have_the_size_of_the_image_and_every_weight_learns() -> None:
    network = PyramidNetwork("tu-resnet10t", num_maps=3)
    logits = network(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 3, 64, 96)
    logits.square().mean().backward()
    unused = [name for name, value in network.named_parameters() if value.grad is None]
    assert not unused


def test_no_branch_of_a_resnet_begins_at_zero() -> None:
    network = PyramidNetwork("tu-resnet10t")
    scales = [module.weight for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(scales) > 10
    assert all((scale == 1).all() for scale in scales)
