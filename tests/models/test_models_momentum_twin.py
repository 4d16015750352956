"""The momentum twin: the moving average by hand, parameters only, no gradient."""

import pytest
import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.momentum_twin import make_twin, update_twin


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def _shift(network: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += by


def test_a_twin_is_equal_apart_and_without_gradient() -> None:
    network = _network()
    twin = make_twin(network)
    for (name, value), own in zip(network.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(value, own), name
        assert value.data_ptr() != own.data_ptr()
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_the_moving_average_by_loop(momentum: float) -> None:
    network = _network()
    twin = make_twin(network)
    expected = [parameter.detach().double().clone() for parameter in twin.parameters()]
    for step in range(3):
        _shift(network, 0.5 + step)
        update_twin(twin, network, momentum)
        sources = [parameter.detach().double() for parameter in network.parameters()]
        expected = [momentum * t + (1 - momentum) * p for t, p in zip(expected, sources, strict=True)]
    for parameter, value in zip(twin.parameters(), expected, strict=True):
        assert torch.allclose(parameter.double(), value, atol=1e-6)


def test_momentum_0_and_1_are_exact() -> None:
    network = _network()
    twin = make_twin(network)
    start = [parameter.clone() for parameter in twin.parameters()]
    _shift(network, 0.3)
    update_twin(twin, network, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), start, strict=True))
    update_twin(twin, network, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), network.parameters(), strict=True))


def test_buffers_are_the_twins_own() -> None:
    network = _network()
    twin = make_twin(network)
    network.train()(torch.randn(8, 3, 2, 2) + 3)
    update_twin(twin, network, 0.5)
    assert int(network[1].num_batches_tracked) == 1  # type: ignore[index,arg-type]
    assert int(twin[1].num_batches_tracked) == 0  # type: ignore[index,arg-type]
    assert twin[1].running_mean.abs().sum() == 0  # type: ignore[index,union-attr,operator]


def test_momentum_outside_its_range_is_refused() -> None:
    network = _network()
    with pytest.raises(InputError, match=r"momentum 1.1 is outside \[0, 1\]; published 0.999"):
        update_twin(make_twin(network), network, 1.1)
