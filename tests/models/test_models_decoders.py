"""The DeepLabV3 decoder: shapes, a batch of one, parity with segmentation_models_pytorch."""

import pytest
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder

from densessl.models.atrous_convolution import AtrousConvolution
from densessl.models.decoders import DeepLabV3


def _features(batch: int, size: tuple[int, int] = (3, 5)) -> torch.Tensor:
    return torch.randn(batch, 12, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("is_separable", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_batch_trains_on_non_square_grids(batch: int, is_separable: bool) -> None:
    decoder = DeepLabV3(12, 8, is_separable=is_separable).train()
    decoded = decoder(_features(batch))
    decoded.sum().backward()
    assert decoded.shape == (batch, 8, 3, 5)
    assert torch.isfinite(decoded).all()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_a_batch_of_one_leaves_the_pooling_statistics_alone() -> None:
    decoder = DeepLabV3(12, 8).train()
    norm = decoder.network.aspp.convs[-1][2]
    decoder(_features(1))
    assert norm.running_mean.abs().sum() == 0
    decoder(_features(2))
    assert norm.running_mean.abs().sum() > 0


@pytest.mark.parametrize("is_training", [True, False])
def test_equals_the_library_where_that_works(is_training: bool) -> None:
    ours = DeepLabV3(12, 8, dropout=0.0).train(is_training)
    theirs = DeepLabV3Decoder(12, 8, atrous_rates=(12, 24, 36), aspp_separable=False, aspp_dropout=0.0)
    theirs.load_state_dict(ours.network.state_dict())
    theirs.train(is_training)
    torch.testing.assert_close(ours(_features(3)), theirs([_features(3)]))
    torch.testing.assert_close(ours.network.state_dict(), theirs.state_dict())


def test_the_library_alone_refuses_a_batch_of_one() -> None:
    """The reason for our own batch norm; when this fails, it can go."""
    theirs = DeepLabV3Decoder(12, 8, atrous_rates=(12, 24, 36), aspp_separable=False, aspp_dropout=0.0).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        theirs([_features(1)])


def test_published_atrous_rates() -> None:
    decoder = DeepLabV3(12, 8)
    assert [module.rate for module in decoder.modules() if isinstance(module, AtrousConvolution)] == [12, 24, 36]
