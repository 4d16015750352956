"""Whether torch.compile works here: it wants a compiler, which no installation of ours brings along."""

import warnings

import torch
from rich.console import Console


def can_compile() -> bool:
    """Try torch.compile on a trifle; where it fails, say so in one line and return False."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(_trifle)(torch.zeros(2))
    except Exception as error:  # no compiler, no headers, no rights: each backend has errors of its own
        reason = (str(error).splitlines() or [""])[0]
        Console(stderr=True).print(
            f"training.compile is true, but torch.compile does not work here ({type(error).__name__}: {reason}); "
            "training goes on without it",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        return False
    return True


def _trifle(values: torch.Tensor) -> torch.Tensor:
    return (values + 1).relu()
