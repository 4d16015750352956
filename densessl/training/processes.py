"""The processes that torchrun or SLURM started: how many there are, and how they share a set of images."""

import os
from collections.abc import Callable
from typing import Any

from densessl.errors import InputError
from densessl.structures import ALL_IMAGES, ImageShare


def count_processes() -> tuple[int, int]:
    """Return how many processes torchrun or srun started together, and how many of them on each machine."""
    if "WORLD_SIZE" in os.environ:
        num_processes = int(os.environ["WORLD_SIZE"])
        return num_processes, int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))
    num_processes = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    local = os.environ.get("SLURM_NTASKS_PER_NODE")
    if num_processes > 1 and local is None:
        raise InputError(
            f"srun started {num_processes} processes (SLURM_STEP_NUM_TASKS), but SLURM_NTASKS_PER_NODE is not set, so "
            "that they cannot find each other; start them with srun --ntasks-per-node N --nodes M"
        )
    return num_processes, int(local) if local is not None and num_processes > 1 else num_processes


def share_images() -> ImageShare:
    """Return this process's share of the images among the processes that were started; all of them at one process.

    The processes meet here, and talk through gloo: no GPU is needed.

    Raises:
        InputError: srun started several processes and does not say how many on each machine.
    """
    num_processes, local = count_processes()
    if num_processes == 1:
        return ALL_IMAGES
    from lightning_fabric import Fabric  # on demand: a process that works alone starts without it

    fabric = Fabric(accelerator="cpu", devices=local, num_nodes=max(1, num_processes // local), strategy="ddp")
    fabric.launch()
    return ImageShare(fabric.global_rank, fabric.world_size, _gather)


def _gather(compute: Callable[[], Any]) -> list[Any]:
    """Return what `compute` gives in each process, by rank; raises the `InputError` of the first that has one."""
    import torch

    own: Any
    try:
        own = compute()
    except InputError as error:
        own = error
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    for result in found:
        if isinstance(result, InputError):
            raise result
    return found
