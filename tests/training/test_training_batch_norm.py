"""Batch norm over processes: the same numbers, gradients, statistics and names as in one process."""

import pytest
import torch
from forked import run_processes
from timm.layers import BatchNormAct2d
from torch import nn

from densessl.training.batch_norm import SummedBatchNorm, synchronise_batch_norm
from densessl.training.devices import make_fabric


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=None), BatchNormAct2d(4)).double()


def _values() -> torch.Tensor:
    return torch.randn(5, 3, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _learn(network: nn.Module, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return output, gradients and buffers after two passes, the loss being a sum over images."""
    for _ in range(2):
        output = network(values)
        (output.tanh() * values[:, :1]).sum().backward()
    gradients = {f"gradient of {name}": value.grad for name, value in network.named_parameters()}
    return {"output": output.detach(), **gradients, **dict(network.named_buffers())}


def _learn_part() -> dict[str, torch.Tensor]:
    fabric, network = make_fabric("fp32"), _network()
    synchronise_batch_norm(network, fabric.device)
    return _learn(network, _values()[:2] if fabric.global_rank == 0 else _values()[2:])


def test_names_parameters_and_mode_stay() -> None:
    network = _network()
    names, parameters = list(network.state_dict()), list(network.parameters())
    network[1].eval()
    synchronise_batch_norm(network, torch.device("cpu"))
    assert isinstance(network[2], SummedBatchNorm)
    assert list(network.state_dict()) == names
    assert all(first is second for first, second in zip(network.parameters(), parameters, strict=True))
    assert [module.training for module in network] == [True, False, True]


def test_in_evaluation_mode_nothing_changes() -> None:
    network = _network().eval()
    expected = network(_values())
    synchronise_batch_norm(network, torch.device("cpu"))
    assert torch.equal(network(_values()), expected)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one() -> None:
    whole, parts = _learn(_network(), _values()), run_processes(2, _learn_part, seconds=60)
    assert torch.allclose(torch.cat([part["output"] for part in parts]), whole["output"], rtol=0, atol=1e-12)
    for name in whole.keys() - {"output"}:
        found = sum(part[name] for part in parts) if name.startswith("gradient") else parts[0][name]
        assert torch.allclose(found.double(), whole[name].double(), rtol=0, atol=1e-11), name
