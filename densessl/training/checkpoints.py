"""Checkpoints of a training run: written atomically, the last few kept, read without executing anything.

A checkpoint holds all that later steps depend on: the network, its twin with the twin's own batch-norm buffers, the
memory bank with its pointer, the optimiser's moments, and the step, from which schedule and sampler go on. Random
numbers follow from (seed, step, rank), so no generator is among it; nor is a gradient scaler, as precision is fp32 or
bf16, which need none. `world_size`, the number of processes, says whether a resumed run repeats the bits.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal

import torch

from densessl.errors import InputError, MissingInputError
from densessl.files import write_atomically

CheckpointKind = Literal["densessl-pretrain-1", "densessl-promptable-1", "densessl-dino-1"]
"""What a checkpoint is of; another kind of training does not resume from it."""

FORMAT: CheckpointKind = "densessl-pretrain-1"
_TRAININGS = {
    "densessl-pretrain-1": "pretraining",
    "densessl-promptable-1": "promptable training",
    "densessl-dino-1": "pretraining by DINO",
}
_NAME = re.compile(r"step-(\d{9})\.pt")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int, kind: CheckpointKind = FORMAT) -> Path:
    """Write the state after `step` steps to `folder/step-<step>.pt` and delete all but the last `keep` checkpoints.

    The state holds tensors, numbers, strings, lists and dictionaries only, so that it loads with `weights_only=True`.
    An old checkpoint is deleted only when the new one would survive a power cut.

    Raises:
        InputError: the disk is full, or the folder cannot be written; checkpoints written before are untouched.
    """
    path = folder / f"step-{step:09d}.pt"
    content = {"format": kind, "step": step, **state}
    try:
        write_atomically(path, lambda temporary: _write(content, temporary))
    except InputError as error:
        kept = list_checkpoints(folder)
        remedy = f"{kept[-1].name} is kept: then go on with --resume true" if kept else "none was written before"
        raise InputError(f"no checkpoint after step {step}: {error}; {remedy}") from error
    _make_durable(folder)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first; unfinished writes are not among them."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def load_checkpoint(path: Path, kind: CheckpointKind = FORMAT) -> dict[str, Any]:
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
    if not isinstance(state, dict) or state.get("format") != kind:
        raise InputError(f"{path} is not a checkpoint of densessl {_TRAININGS[kind]} (format {kind})")
    return state


def _write(content: dict[str, Any], path: Path) -> None:
    with path.open("wb") as handle:
        try:
            torch.save(content, handle)
        except RuntimeError as error:  # torch's own, of the position in the file; the cause is what the disk said
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _make_durable(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
