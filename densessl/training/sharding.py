"""Fully sharded training: every process holds a part of each parameter, of its twin and of the optimiser's moments.

PyTorch's FSDP2 (`fully_shard`, Zhao et al. 2023, arXiv:2304.11277): a parameter becomes a DTensor cut along its first
dimension, is gathered before it is used and freed afterwards. Buffers stay whole.
"""

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard_network(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard a network in place over the data-parallel dimension of a mesh: each block of its stages, then the rest.

    A block is a module inside an `nn.Sequential` that is not itself one, which is how timm builds the stages of its
    encoders. The network's parameters are gathered once more in the backward pass, and never stay whole after a step.
    """
    data_parallel = mesh["data_parallel"]
    for block in reversed(_blocks(network)):  # what lies inside another comes first
        fully_shard(block, mesh=data_parallel)
    fully_shard(network, mesh=data_parallel, reshard_after_forward=True)
    return network


def whole(value: Any) -> Any:
    """Return a tensor, or every tensor of a dictionary or list, gathered from its parts; all processes call together.

    What was gathered lies in the memory of rank 0's host; other ranks get an empty tensor in its place, so that no
    device has to hold a whole network. What is not sharded is returned as it is.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if torch.distributed.get_rank() == 0 else torch.empty(0)
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value


def held_as(value: Any, like: Any) -> Any:
    """Return a whole tensor, which every process holds, cut and laid out in memory as `like` is; no communication.

    What is no tensor or has another shape is returned as it is. The layout matters for an optimiser's moments: fused
    kernels pair them with their parameter in the order of memory.
    """
    if not isinstance(value, torch.Tensor) or not isinstance(like, torch.Tensor) or value.shape != like.shape:
        return value
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def _blocks(network: nn.Module) -> list[nn.Module]:
    stages = [module for module in network.modules() if isinstance(module, nn.Sequential)]
    inside = [child for stage in stages for child in stage if not isinstance(child, nn.Sequential)]
    return [block for block in inside if sum(1 for _ in block.parameters()) > 2]  # no single convolution or norm
