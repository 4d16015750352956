"""Self-training of a saliency network on a set of images, round by round, below one folder."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from densessl.commands.provenance import masks_provenance
from densessl.data.soft_targets import SoftMaps
from densessl.errors import InputError
from densessl.files import make_folder, read_json, write_json
from densessl.models.saliency_network import (
    SaliencyNetworkHeader,
    initial_saliency_network,
    load_saliency_network,
    save_saliency_network,
)
from densessl.saliency.estimators import method_of
from densessl.saliency.feature_settings import DEEP_METHODS
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageSet
from densessl.training.devices import make_fabric
from densessl.training.run_folder import plain
from densessl.training.self_training import SelfTrainingSettings, train_saliency_network

_FREE = ("method", "network", "keep_soft")
"""Settings of saliency that do not concern the teachers and rounds: those of the folder that is made in the end."""


def self_train(
    images: ImageSet,
    out: Path,
    saliency: SaliencySettings,
    settings: SelfTrainingSettings,
    seed: int,
    num_workers: int | None = None,
) -> Path:
    """Train a saliency network on the maps of other estimators, then on its own, and return its file.

    Writes TEACHER/ for each teacher and round-1/, round-2/, ... below `out`, each a proposals folder with soft maps
    (the last round keeps its network alone), and network.safetensors. What is finished is not done again, so a run
    that was stopped goes on with the round it was in.

    Args:
        images: the images to learn from; their labels are not read.
        out: the folder to write.
        saliency: how the teachers refine and threshold their maps; `encoder` and `weights` serve those of the teachers
            that work on features.
        settings: rounds, network and schedule.
        seed: of initial weights, order and views.
        num_workers: processes that make the maps.

    Raises:
        InputError: `out` was begun with other settings, or anything that its parts raise.
    """
    make_folder(out)
    _claim(out, saliency, settings, seed)
    final = out / "network.safetensors"
    if final.is_file():
        return final
    folders, weights = [], []
    for teacher in settings.teachers:
        folder = out / teacher
        generate_proposals(images, folder, _of_teacher(saliency, teacher), num_workers)
        folders.append(folder)
        weights.append(1 / len(settings.teachers))
    for number in range(1, settings.rounds + 1):
        folder = out / f"round-{number}"
        make_folder(folder)
        network = folder / "network.safetensors"
        targets = SoftMaps(tuple(item / "soft" for item in folders), tuple(weights))
        if not network.is_file():
            _train_round(images, targets, network, settings, seed + number, _supervision(out, settings))
        if number < settings.rounds:
            student = replace(_of_teacher(saliency, "self_trained"), network=network)
            generate_proposals(images, folder, student, num_workers)
        weights = [settings.averaging * weight for weight in weights] + [1 - settings.averaging]
        folders.append(folder)
    trained, header = load_saliency_network(network)
    save_saliency_network(final, trained, header)
    return final


def _train_round(
    images: ImageSet, targets: SoftMaps, path: Path, settings: SelfTrainingSettings, seed: int, teachers: str
) -> None:
    torch.manual_seed(seed)
    network, supervision = initial_saliency_network(settings.encoder, settings.weights, pretrained=settings.pretrained)
    usable = tuple(ref for ref in images.images if targets.has(ref.stem))
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(f"{path.parent.name}: {len(usable)} of {len(images)} images; initial weights: {supervision}")
    loss = train_saliency_network(make_fabric("auto"), network, usable, targets, settings, seed)
    console.print(f"{path.parent.name}: loss {loss:.4f} in the last epoch")
    header = SaliencyNetworkHeader(
        settings.encoder, settings.size_px, f"initial weights: {supervision}; targets: {teachers}"
    )
    save_saliency_network(path, network.eval(), header)


def _of_teacher(saliency: SaliencySettings, teacher: str) -> SaliencySettings:
    """Return the settings of one teacher; those without features get no weights."""
    is_deep = teacher in DEEP_METHODS
    return replace(
        saliency,
        method=method_of(teacher),
        network=None,
        keep_soft=True,
        weights=saliency.weights if is_deep else None,
        pretrained=saliency.pretrained and is_deep,
    )


def _supervision(out: Path, settings: SelfTrainingSettings) -> str:
    return "; ".join(masks_provenance(out / teacher) for teacher in settings.teachers)


def _claim(out: Path, saliency: SaliencySettings, settings: SelfTrainingSettings, seed: int) -> None:
    """Record the settings, or refuse a folder that was begun with other ones."""
    now: dict[str, Any] = plain({"saliency": saliency.plain(), "self_training": asdict(settings), "seed": seed})
    for key in _FREE:
        now["saliency"].pop(key, None)
    now["self_training"].pop("num_workers")
    path = out / "self_training.json"
    if not path.is_file():
        write_json(path, now)
        return
    before = read_json(path, "the settings of a self-training run")
    differences = [
        f"{section}.{key} {before[section].get(key)!r} there, {value!r} now"
        for section in ("saliency", "self_training")
        for key, value in now[section].items()
        if before[section].get(key) != value
    ]
    if before.get("seed") != seed:
        differences.append(f"seed {before.get('seed')} there, {seed} now")
    if differences:
        raise InputError(
            f"{out} was begun with other settings ({'; '.join(differences)}); use those, or another output folder"
        )
