"""Which part of a set of images this process works on."""

import os
import re
from typing import NamedTuple

from densessl.errors import InputError
from densessl.machine import num_cores
from densessl.saliency.generation import Shard


class _Launcher(NamedTuple):
    """Variables that number this process, count all and count those on this machine; whether it binds them to cores."""

    rank: str
    world_size: str
    local_size: str
    binds: bool


_LAUNCHERS = (
    _Launcher("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", binds=False),  # torchrun
    _Launcher("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE", binds=True),  # srun
)


def choose_shard(text: str) -> Shard:
    """Return the part that `text`, such as "2/4", names; "auto" takes that of this process.

    The first of four parts is 1/4. Processes started by torchrun or srun are numbered by their launcher; a process that
    was started alone has all the images.

    Raises:
        InputError: another text, or a part that does not exist.
    """
    if text == "auto":
        for launcher in _LAUNCHERS:
            if launcher.rank in os.environ and launcher.world_size in os.environ:
                return Shard(int(os.environ[launcher.rank]), int(os.environ[launcher.world_size]))
        return Shard()
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None:
        raise InputError(f"shard {text!r} is no part of a whole; write it like 2/4, the second of four, or auto")
    return Shard(int(found[1]) - 1, int(found[2]))


def cores_per_process() -> int:
    """Return how many cores of this machine this process may use, at least 1.

    The processes of a launcher share the cores that they see, except where srun has bound each to cores of its own:
    then a process sees fewer than the machine has. torchrun binds none, so fewer cores there are those of a container
    or a batch job, and are shared.
    """
    cores, machine = num_cores(), os.cpu_count() or 1
    for launcher in _LAUNCHERS:
        if launcher.world_size in os.environ:
            if launcher.binds and cores < machine:
                return cores
            return max(1, cores // int(os.environ.get(launcher.local_size, os.environ[launcher.world_size])))
    return cores
