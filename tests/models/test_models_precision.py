"""Precision and memory format: what is asked for, and what auto chooses."""

import pytest
import torch
from torch import nn

from densessl.errors import InputError
from densessl.models import precision
from densessl.models.precision import choose_memory_format, choose_precision, has_fast_bf16_cpu, on_device

CPU = torch.device("cpu")


def test_precision_is_what_was_asked_for() -> None:
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    with pytest.raises(InputError, match="precision 'fp16' is unknown; choose one of auto, fp32, bf16"):
        choose_precision("fp16", CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(("is_fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_looks_at_the_processor(monkeypatch: pytest.MonkeyPatch, is_fast: bool, expected: str) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16_cpu", lambda: is_fast)
    assert choose_precision("auto", CPU) == expected
    assert isinstance(has_fast_bf16_cpu(), bool)


def test_memory_format() -> None:
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    patches = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.Conv2d(4, 4, 1), nn.Linear(4, 4))
    assert choose_memory_format("auto", convolutions) == torch.channels_last
    assert choose_memory_format("auto", patches) == torch.contiguous_format
    assert choose_memory_format("contiguous", convolutions) == torch.contiguous_format
    assert choose_memory_format("channels_last", patches) == torch.channels_last


def test_a_network_moves_in_the_layout_it_is_fast_in() -> None:
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    assert on_device(convolutions, torch.device("cpu")) is convolutions
    assert convolutions[1].weight.is_contiguous(memory_format=torch.channels_last)
    patches = on_device(nn.Sequential(nn.Conv2d(3, 4, 16, stride=16)), torch.device("cpu"))
    assert patches[0].weight.is_contiguous()
