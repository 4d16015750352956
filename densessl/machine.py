"""What this process may use of the machine."""

import os


def num_cores() -> int:
    """Return how many cores this process may run on, at least 1: those that a container or a batch job leaves it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
