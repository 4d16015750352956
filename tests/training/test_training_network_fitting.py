"""What networks that learn from targets share: groups of the optimiser, the rate of a step, batch norm that stays."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

from densessl.errors import InputError
from densessl.training.devices import make_fabric
from densessl.training.network_fitting import build_optimizer, fit_network, freeze_batch_norm, set_learning_rate
from densessl.training.sampler import BatchSampler


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


class Pair(NamedTuple):
    image: torch.Tensor
    target: torch.Tensor


def _pairs(num_batches: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(0)
    return [
        Pair(torch.randn(3, 3, 4, 4, generator=generator), torch.randn(3, 4, 4, generator=generator))
        for _ in range(num_batches)
    ]


def _squared_error(network: nn.Module, pair: Pair) -> torch.Tensor:
    return (network(pair.image)[:, 0] - pair.target).square().mean()


def test_steps_are_those_of_a_loop_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    settings, pairs = Settings(epochs=2), _pairs(4)
    network, encoder = _network()
    other, other_encoder = _network()
    other.load_state_dict(network.state_dict())
    fabric, sampler = make_fabric("fp32"), BatchSampler(7, 3, settings.epochs, seed=0)
    wrapped, optimizer = fabric.setup(network, build_optimizer(network, encoder, settings))
    outcome = fit_network(
        fabric,
        optimizer,
        [Pair(fabric.to_device(pair.image), fabric.to_device(pair.target)) for pair in pairs],
        sampler,
        settings,
        lambda pair: _squared_error(wrapped, pair),
        "round 7",
        "flags",
    )
    slow, losses = build_optimizer(other, other_encoder, settings), []
    for step, pair in enumerate(pairs):
        set_learning_rate(slow, settings, step, steps_per_epoch=2)
        slow.zero_grad()
        loss = _squared_error(other, pair)
        loss.backward()
        slow.step()
        losses.append(float(loss.detach()))
    for value, expected in zip(network.cpu().parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(value, expected)
    assert outcome.loss == pytest.approx((losses[2] + losses[3]) / 2)
    assert outcome.images_per_second == pytest.approx(12 / outcome.seconds)
    said = capsys.readouterr().err
    assert f"round 7: epoch 2 of 2  loss {outcome.loss:.4f}  " in said
    assert "images/s  0.0 min left in this round" in said


def test_a_loss_that_is_no_number_leaves_the_weights() -> None:
    network, encoder = _network()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    fabric = make_fabric("fp32")
    wrapped, optimizer = fabric.setup(network, build_optimizer(network, encoder, Settings()))
    sampler = BatchSampler(3, 3, 1, seed=0)
    with pytest.raises(
        InputError, match=r"the loss became nan at step 1 of round 1; lower flags\.learning_rate \(now 0\.1"
    ):
        fit_network(
            fabric,
            optimizer,
            [Pair(torch.full((3, 3, 4, 4), torch.nan), torch.zeros(3, 4, 4))],
            sampler,
            Settings(),
            lambda pair: _squared_error(wrapped, Pair(*map(fabric.to_device, pair))),
            "round 1",
            "flags",
        )
    for value, expected in zip(network.cpu().parameters(), before, strict=True):
        assert torch.equal(value, expected)
