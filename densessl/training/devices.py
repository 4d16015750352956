"""Devices and processes, through Lightning Fabric: a plain call, torchrun or SLURM alike."""

import os
from typing import Literal

import torch
from lightning_fabric import Fabric

from densessl.models.precision import choose_precision


def make_fabric(precision: Literal["auto", "fp32", "bf16"]) -> Fabric:
    """Start Fabric on what is there: the processes torchrun or SLURM made, else one process on one device.

    At one process there is no process group.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", num_processes)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen: Literal["32-true", "bf16-mixed"] = (
        "bf16-mixed" if choose_precision(precision, device) == "bf16" else "32-true"
    )
    fabric = Fabric(
        accelerator=device.type,
        devices=local,
        num_nodes=max(1, num_processes // local),
        strategy="ddp" if num_processes > 1 else "auto",
        precision=chosen,
    )
    fabric.launch()
    return fabric


def gather_rows(fabric: Fabric, rows: torch.Tensor) -> torch.Tensor:
    """Return the rows (num, dim) of all processes, in order of rank; every process may hold another number of rows."""
    if fabric.world_size == 1:
        return rows
    own = torch.tensor(len(rows), device=rows.device)
    counts = torch.as_tensor(fabric.all_gather(own)).flatten().tolist()
    padded = torch.zeros(max(counts), rows.shape[1], dtype=rows.dtype, device=rows.device)
    padded[: len(rows)] = rows
    gathered = fabric.all_gather(padded)  # (world, most rows, dim)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])
