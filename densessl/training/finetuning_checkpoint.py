"""The checkpoint of a fine-tuning: all that later epochs depend on, written after each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from densessl.errors import InputError
from densessl.files import write_atomically

FORMAT = "densessl-finetune-1"


@dataclass(frozen=True)
class FinetuneProgress:
    """losses: mean of each epoch that is done. num_pixels: labelled pixels of each class that were learned from."""

    losses: tuple[float, ...]
    num_pixels: tuple[int, ...]


def save_finetuning(
    path: Path, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer, progress: FinetuneProgress
) -> None:
    """Write weights, the optimiser's moments and the progress in place of those of the epoch before.

    `identity` says what training this is; another one does not resume from it.
    """
    content = {
        "format": FORMAT,
        "identity": identity,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "losses": list(progress.losses),
        "num_pixels": list(progress.num_pixels),
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def resume_finetuning(
    path: Path, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer
) -> FinetuneProgress:
    """Give a network and its optimiser the state of a checkpoint, and return how far it had come.

    Raises:
        InputError: a broken file, one of another kind, or of another training.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged archives; all mean the same to the user
        raise InputError(f"checkpoint {path} is cut off ({type(error).__name__}); delete it to begin anew") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a checkpoint of fine-tuning (format {FORMAT}); give another file")
    if content["identity"] != identity:
        raise InputError(
            f"checkpoint {path} belongs to another training: settings, seed, classes and number of images are "
            f"{content['identity']} there and {identity} now; delete it or choose another file"
        )
    network.load_state_dict(content["network"])
    optimizer.load_state_dict(content["optimizer"])
    return FinetuneProgress(tuple(content["losses"]), tuple(content["num_pixels"]))
