"""The network of method `learned_border`, trained on a set of images below one folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from densessl.commands.training_claim import claim_folder, describe_images
from densessl.errors import InputError
from densessl.files import make_folder
from densessl.models.border_network import BorderNetwork, save_border_network
from densessl.structures import ImageSet
from densessl.training.border_training import BorderTrainingSettings, train_border_network
from densessl.training.devices import make_fabric

_RECORD = "border_training.json"


def train_border(images: ImageSet, out: Path, settings: BorderTrainingSettings, seed: int) -> Path:
    """Train a network on a set of images, without their labels, and return its file.

    Writes network.safetensors and border_training.json, which says what it was made with, below `out`. What is
    finished is not done again; a training that was stopped begins anew.

    Raises:
        InputError: no images, or `out` was begun with other settings or images.
    """
    path = out / "network.safetensors"
    if not images.images:
        raise InputError("learned_border has no image to learn from; give a folder that holds some")
    make_folder(out)
    described = {
        "border_training": describe_border_training(settings),
        "images": describe_images(images),
        "training": {"seed": seed},
    }
    claim_folder(out, _RECORD, described, {"border_training": describe_border_training(BorderTrainingSettings())})
    if path.is_file():
        return path
    torch.manual_seed(seed)
    network = BorderNetwork()
    loss = train_border_network(make_fabric("auto"), network, images.images, settings, seed)
    save_border_network(path, network)
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
        f"learned border: loss {loss:.4f} in the last epoch (0.6931 is chance); {len(images)} images, no labels"
    )
    return path


def describe_border_training(settings: BorderTrainingSettings) -> dict[str, Any]:
    """Return the settings that a network depends on, as JSON holds them."""
    return {name: value for name, value in asdict(settings).items() if name != "num_workers"}
