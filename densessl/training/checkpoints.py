"""Checkpoints of a training run: written atomically, the last few kept, read without executing anything."""

import re
from pathlib import Path
from typing import Any

import torch

from densessl.errors import InputError, MissingInputError
from densessl.files import write_atomically

FORMAT = "densessl-pretrain-1"
_NAME = re.compile(r"step-(\d{9})\.pt")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state after `step` steps to `folder/step-<step>.pt` and delete all but the last `keep` checkpoints.

    The state holds tensors, numbers, strings, lists and dictionaries only, so that it loads with `weights_only=True`.
    """
    path = folder / f"step-{step:09d}.pt"
    content = {"format": FORMAT, "step": step, **state}
    write_atomically(path, lambda temporary: torch.save(content, temporary))
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first; unfinished writes are not among them."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        MissingInputError: no such file.
        InputError: not a checkpoint of this program, or broken.
    """
    if not path.is_file():
        raise MissingInputError(f"no checkpoint {path}; expected a file step-<number>.pt of a densessl run")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged archives; all mean the same to the user
        raise InputError(
            f"checkpoint {path} is cut off, or was not written by densessl ({type(error).__name__}); delete it to "
            "resume from the one before"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path} is not a checkpoint of densessl pretraining (format {FORMAT})")
    return state
