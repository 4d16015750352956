"""Devices and processes, through Lightning Fabric: a plain call, torchrun or SLURM alike."""

import os
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import ModelParallelStrategy

from densessl.models.precision import choose_precision
from densessl.objectives.whole_batch import WholeBatch
from densessl.training.processes import count_processes
from densessl.training.sharding import shard_network

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts, which then repeats itself


def make_fabric(precision: Literal["auto", "fp32", "bf16"], strategy: Literal["ddp", "fsdp"] = "ddp") -> Fabric:
    """Start Fabric on what is there: the processes torchrun or SLURM made, else one process on one device.

    At one process there is no process group, and `strategy` does not matter. A plain call within an allocation of
    SLURM is one process too, whatever tasks were asked for: only srun starts several. On a GPU, from then on, this
    process chooses algorithms that repeat themselves bit by bit, where torch has such (docs/architecture.md).

    Raises:
        InputError: srun started several processes and does not say how many on each machine.
    """
    num_processes, local = count_processes()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        _repeat_exactly()
    chosen: Literal["32-true", "bf16-mixed"] = (
        "bf16-mixed" if choose_precision(precision, device) == "bf16" else "32-true"
    )
    fabric = Fabric(
        accelerator=device.type,
        devices=local,
        num_nodes=max(1, num_processes // local),
        strategy=_strategy(strategy, num_processes),
        precision=chosen,
        plugins=[LightningEnvironment()] if num_processes == 1 else None,  # else it would look at the allocation
    )
    fabric.launch()
    return fabric


def _repeat_exactly() -> None:
    """Choose deterministic algorithms where there are such; torch warns of the others."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs time alone


def whole_batch(fabric: Fabric) -> WholeBatch | None:
    """Return how the parts of a batch that the processes hold come together; None at one process."""
    if fabric.world_size == 1:
        return None

    def gather(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        return gather_rows(fabric, rows), sum(count_rows(fabric, rows)[: fabric.global_rank])

    return WholeBatch(gather, sum_over_processes)


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes, which must be several.

    Gradients are summed likewise. As the processes' gradients of the weights are averaged afterwards, a loss that every
    process holds in whole because it was summed so trains as it would in one process.
    """
    return _Sum.apply(values)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return _Sum.apply(gradient)


def gather_rows(fabric: Fabric, rows: torch.Tensor) -> torch.Tensor:
    """Return the rows (num, ...) of all processes, in order of rank, without gradient; their numbers may differ."""
    if fabric.world_size == 1:
        return rows
    counts = count_rows(fabric, rows)
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(gathered, padded)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def count_rows(fabric: Fabric, rows: torch.Tensor) -> list[int]:
    """Return how many rows each process holds, in order of rank."""
    counts = torch.zeros(fabric.world_size, dtype=torch.int64, device=rows.device)
    counts[fabric.global_rank] = len(rows)
    torch.distributed.all_reduce(counts)
    return counts.tolist()


@torch.no_grad()
def share_buffers(fabric: Fabric, module: torch.nn.Module) -> None:
    """Give every process the buffers of rank 0, as a checkpoint will hold them; at one process nothing happens."""
    if fabric.world_size == 1:
        return
    for dtype in sorted({buffer.dtype for buffer in module.buffers()}, key=str):  # one message for each
        buffers = [buffer for buffer in module.buffers() if buffer.dtype == dtype]
        message = torch.cat([buffer.flatten() for buffer in buffers])
        torch.distributed.broadcast(message, src=0)
        for buffer, values in zip(buffers, message.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(values.view_as(buffer))


def _strategy(strategy: Literal["ddp", "fsdp"], num_processes: int) -> str | ModelParallelStrategy:
    if num_processes == 1:
        return "auto"
    match strategy:
        case "ddp":
            return "ddp"
        case "fsdp":
            return ModelParallelStrategy(shard_network, data_parallel_size=num_processes, tensor_parallel_size=1)
