"""Which part of a set of images this process works on."""

import os
import re

from densessl.errors import InputError
from densessl.saliency.generation import Shard

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE"),
)
"""Variables of torchrun and srun: number of this process, of all, of those on this machine."""


def choose_shard(text: str) -> Shard:
    """Return the part that `text`, such as "2/4", names; "auto" takes that of this process.

    The first of four parts is 1/4. Processes started by torchrun or srun are numbered by their launcher; a process that
    was started alone has all the images.

    Raises:
        InputError: another text, or a part that does not exist.
    """
    if text == "auto":
        for rank, world_size, _ in _LAUNCHERS:
            if rank in os.environ and world_size in os.environ:
                return Shard(int(os.environ[rank]), int(os.environ[world_size]))
        return Shard()
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None:
        raise InputError(f"shard {text!r} is no part of a whole; write it like 2/4, the second of four, or auto")
    return Shard(int(found[1]) - 1, int(found[2]))


def cores_per_process() -> int:
    """Return how many cores of this machine each of the launcher's processes may use, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for _, world_size, local in _LAUNCHERS:
        if world_size in os.environ:
            return max(1, cores // int(os.environ.get(local, os.environ[world_size])))
    return cores
