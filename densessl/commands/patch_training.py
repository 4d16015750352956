"""The network of method `learned_patches`, trained on a set of images, round by round, below one folder."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from densessl.commands.training_claim import claim_folder, describe_images
from densessl.data.soft_targets import SoftMaps
from densessl.errors import InputError
from densessl.files import make_folder
from densessl.models.patch_network import PatchNetwork, PatchNetworkHeader, load_patch_network, save_patch_network
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageSet
from densessl.training.devices import make_fabric
from densessl.training.patch_training import PatchTrainingSettings, train_patch_network

_RECORD = "patch_training.json"
_OF_MAPS = ("refine", "threshold", "min_area", "max_area", "feature_size_px")
"""The settings of saliency on which the maps of a round depend."""


def train_patches(
    images: ImageSet,
    out: Path,
    saliency: SaliencySettings,
    settings: PatchTrainingSettings,
    seed: int,
    num_workers: int | None = None,
) -> Path:
    """Train a network on a set of images, without their labels, and return its file.

    Writes round-1/, round-2/, ... below `out`, each with its network and, but for the last, a proposals folder with
    soft maps; network.safetensors; and patch_training.json, which says what they were made with. What is finished is
    not done again; a run that was stopped trains the network of its round anew. An image that was rejected in a round
    teaches nothing in the next.

    Args:
        images: the images to learn from; their labels are not read. One that cannot be decoded is left out.
        out: the folder to write.
        saliency: of method learned_patches; how the maps of a round are refined and thresholded.
        settings: rounds and schedule.
        seed: of initial weights, order and mirror images.
        num_workers: processes that make the maps.

    Raises:
        InputError: no images, nothing to learn from, a loss that is not a number, or `out` was begun with other
            settings or images.
    """
    if not images.images:
        raise InputError("learned_patches has no image to learn from; give a folder that holds some")
    make_folder(out)
    described = {
        "saliency": {name: saliency.plain()[name] for name in _OF_MAPS},
        "patch_training": describe_patch_training(settings),
        "images": describe_images(images),
        "training": {"seed": seed},
    }
    defaults = {
        "saliency": SaliencySettings().plain(),
        "patch_training": describe_patch_training(PatchTrainingSettings()),
    }
    claim_folder(out, _RECORD, described, defaults)
    final = out / "network.safetensors"
    if final.is_file():
        return final
    maps = None
    for number in range(1, settings.rounds + 1):
        folder = out / f"round-{number}"
        make_folder(folder)
        network = folder / "network.safetensors"
        if not network.is_file():
            _train_round(images, maps, network, settings, seed, number)
        if number < settings.rounds:
            maker = replace(saliency, network=network, keep_soft=True)
            generate_proposals(images, folder, maker, num_workers)
        maps = SoftMaps((folder / "soft",), (1.0,))
    save_patch_network(final, *load_patch_network(network))
    return final


def describe_patch_training(settings: PatchTrainingSettings) -> dict[str, Any]:
    """Return the settings that a network depends on, as JSON holds them."""
    return {name: value for name, value in asdict(settings).items() if name != "num_workers"}


def _train_round(
    images: ImageSet, maps: SoftMaps | None, path: Path, settings: PatchTrainingSettings, seed: int, number: int
) -> None:
    torch.manual_seed(seed + number)
    network = PatchNetwork()
    usable = tuple(ref for ref in images.images if maps is None or maps.has(ref.stem))
    if not usable:
        rejected = path.parent.parent / f"round-{number - 1}" / "rejected.json"
        raise InputError(
            f"no image has a soft map to learn from: {rejected} says why; allow smaller or larger masks (--min_area, "
            "--max_area) in another --out, or take method fused"
        )
    loss = train_patch_network(make_fabric("auto"), network, usable, maps, settings, seed + number)
    save_patch_network(path, network, PatchNetworkHeader(len(usable), number))
    learned = "border and middle" if maps is None else "the maps of the round before"
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
        f"learned patches, round {number} of {settings.rounds}: {learned} of {len(usable)} images, no labels; loss "
        f"{loss:.4f} in the last epoch (0.6931 is chance)"
    )
