"""What this process may use of the machine."""

import os

import torch


def num_cores() -> int:
    """Return how many cores this process may run on, at least 1: those that a container or a batch job leaves it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_processes(asked: int, most: int = 2) -> int:
    """Return how many processes load images: `asked` of them; where that is negative, one a core, and at most `most`.

    torch's number of threads counts as that of the cores, so that OMP_NUM_THREADS limits both.
    """
    return min(most, torch.get_num_threads()) if asked < 0 else asked
