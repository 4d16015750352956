"""What one MaskContrast step must compute and move, and how fast this machine can: the floor under its time.

Counted layer by layer for the network as built: convolutions by the taps that fall inside their map (padding costs
nothing), every other module by the bytes it reads and writes. A trained layer runs forward in the network and in its
twin, then backward once for its input and once for its weight; the first convolution has no gradient of its input. The
loss is left out: its products are under 1 % of the step's.

A layer takes at least its arithmetic at the machine's matrix rate or its bytes at the machine's memory bandwidth,
whichever is longer; the floor is their sum. Both rates are measured, with large matrix products and copies.
"""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

from densessl.models.atrous_convolution import AtrousConvolution
from densessl.models.mask_contrast_model import MaskContrastModel


@dataclass(frozen=True)
class LayerWork:
    """Multiplications and additions (flops) and bytes of one layer for one image, in the forward pass and in all."""

    name: str
    forward_flops: float
    step_flops: float
    step_bytes: float


@dataclass(frozen=True)
class MachineRates:
    """Measured: matrix products (flops a second) in the precision used, and memory traffic (bytes a second)."""

    flops_per_second: float
    bytes_per_second: float


def step_work(model: MaskContrastModel, size_px: int, bytes_per_value: int) -> list[LayerWork]:
    """Count the work of one step on one image of `size_px` x `size_px`, layer by layer."""
    layers: list[LayerWork] = []
    hooks = []
    for name, module in model.named_modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(_counter(name, layers, bytes_per_value)))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, size_px, size_px))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return layers


def floor_seconds(layers: list[LayerWork], rates: MachineRates) -> float:
    """Return the shortest time of one step for one image: each layer bound by arithmetic or by memory."""
    return sum(
        max(layer.step_flops / rates.flops_per_second, layer.step_bytes / rates.bytes_per_second) for layer in layers
    )


def measure_rates(device: torch.device, kind: torch.dtype) -> MachineRates:
    """Measure this machine: the best of several matrix products of 4096 (GPU) or 2048 (CPU), and of several copies."""
    size = 8192 if device.type == "cuda" else 2048
    first, second = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    product = _median_seconds(lambda: first @ second, device)
    values = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)  # 1 GiB, or 256 MiB: no cache
    target = torch.empty_like(values)
    copy = _median_seconds(lambda: target.copy_(values), device)
    return MachineRates(2.0 * size**3 / product, 2.0 * values.numel() * values.element_size() / copy)


def _counter(name: str, layers: list[LayerWork], bytes_per_value: int):  # type: ignore[no-untyped-def]
    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        values = inputs[0].numel() + output.numel()
        passes = 2 if not _is_trained(module) else 3 if inputs[0].shape[1] == 3 else 4
        flops = 0.0
        if isinstance(module, nn.Conv2d | AtrousConvolution):
            flops = 2.0 * _products(module, inputs[0], output)
            values += module.weight.numel()
        layers.append(LayerWork(name, flops, passes * flops, float(passes * values * bytes_per_value)))

    return count


def _is_trained(module: nn.Module) -> bool:
    return all(parameter.requires_grad for parameter in module.parameters())


def _products(module: nn.Conv2d | AtrousConvolution, given: torch.Tensor, output: torch.Tensor) -> int:
    """Return the number of multiplications of a convolution, those with padding left out."""
    channels = module.weight.shape[0] * module.weight.shape[1]
    pairs = 1
    for axis in (2, 3):
        taps, cells = module.weight.shape[axis], given.shape[axis]
        if isinstance(module, AtrousConvolution):
            stride, dilation, padding = 1, module.rate, module.rate * (taps // 2)
        else:
            stride, dilation = module.stride[axis - 2], module.dilation[axis - 2]
            padding = int(module.padding[axis - 2])
        pairs *= sum(
            0 <= place * stride + tap * dilation - padding < cells
            for place in range(output.shape[axis])
            for tap in range(taps)
        )
    return channels * pairs


def _median_seconds(work, device: torch.device) -> float:  # type: ignore[no-untyped-def]
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
