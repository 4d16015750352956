"""Which number format and memory layout a machine is fast at."""

import functools
from typing import Literal, TypeVar, get_args

import torch

from densessl.errors import InputError

Precision = Literal["auto", "fp32", "bf16"]
"""How a network computes: auto is bf16 where the machine multiplies it in hardware, else fp32."""

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)


def choose_precision(setting: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Turn `auto` into bf16 where the device multiplies bf16 matrices in hardware, else fp32.

    Raises `InputError` for another word.
    """
    if setting not in get_args(Precision):
        raise InputError(f"precision {setting!r} is unknown; choose one of {', '.join(get_args(Precision))}")
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and has_fast_bf16_cpu() else "fp32"


@functools.cache
def has_fast_bf16_cpu() -> bool:
    """Say whether this processor has bf16 dot-product or matrix instructions that oneDNN uses."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            flags = next((line for line in handle if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))


def choose_memory_format(
    setting: Literal["auto", "channels_last", "contiguous"], model: torch.nn.Module
) -> torch.memory_format:
    """Turn `auto` into channels-last for networks with more than a patch embedding's worth of convolutions."""
    match setting:
        case "channels_last":
            return torch.channels_last
        case "contiguous":
            return torch.contiguous_format
        case "auto":
            num_spatial = sum(
                isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1) for module in model.modules()
            )
            return torch.channels_last if num_spatial > 1 else torch.contiguous_format


def on_device(model: ModuleT, device: torch.device) -> ModuleT:
    """Move a network to the device, in the memory layout that it is fast in there."""
    model.to(memory_format=choose_memory_format("auto", model))  # type: ignore[call-overload]
    return model.to(device)
