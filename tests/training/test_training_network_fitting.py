"""What networks that learn from targets share: groups of the optimiser, the rate of a step, batch norm that stays."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from densessl.training.network_fitting import build_optimizer, freeze_batch_norm, set_learning_rate


@dataclass(frozen=True)
class Settings:
    epochs: int = 10
    learning_rate: float = 0.1
    encoder_lr_scale: float = 0.5
    weight_decay: float = 0.01


def _network() -> tuple[nn.Sequential, nn.Module]:
    encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    return nn.Sequential(encoder, nn.Conv2d(4, 2, 1)), encoder


def test_the_encoder_learns_at_its_own_rate() -> None:
    network, encoder = _network()
    optimizer = build_optimizer(network, encoder, Settings())
    assert [len(group["params"]) for group in optimizer.param_groups] == [4, 2]
    set_learning_rate(optimizer, Settings(), 25, steps_per_epoch=5)  # halfway down the cosine, after the warm-up
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.025, 0.05])
    set_learning_rate(optimizer, Settings(), 0, steps_per_epoch=5)  # the first of five steps of warm-up
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.02)


def test_an_encoder_of_rate_zero_needs_no_gradient() -> None:
    network, encoder = _network()
    build_optimizer(network, encoder, Settings(encoder_lr_scale=0.0))
    assert [parameter.requires_grad for parameter in network.parameters()] == [False] * 4 + [True] * 2


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    network, encoder = _network()
    network.train()
    freeze_batch_norm(encoder)
    network(torch.randn(2, 3, 4, 4))
    assert torch.equal(encoder[1].running_mean, torch.zeros(4))
