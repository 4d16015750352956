"""The momentum twin: a copy of a network that follows it slowly and receives no gradient (MoCo, arXiv:1911.05722)."""

import copy

import torch
from torch import nn

from densessl.errors import InputError


def make_twin(model: nn.Module) -> nn.Module:
    """Return a copy of the network whose parameters take no gradient; its batch-norm buffers are its own."""
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.requires_grad = False
    return twin


@torch.no_grad()
def update_twin(twin: nn.Module, model: nn.Module, momentum: float) -> None:
    """Move the twin's parameters towards the network's: t <- m t + (1 - m) p (MoCo, equation 2).

    Only parameters move; buffers (batch-norm statistics) are the twin's own, as published.

    Args:
        twin: made by `make_twin(model)`.
        model: the trained network.
        momentum: m in [0, 1]; published 0.999.
    """
    if not 0.0 <= momentum <= 1.0:
        raise InputError(f"momentum {momentum} is outside [0, 1]; published 0.999")
    targets = [parameter.detach() for parameter in twin.parameters()]
    sources = [parameter.detach() for parameter in model.parameters()]
    torch._foreach_lerp_(targets, sources, 1.0 - momentum)
