"""Self-training of a saliency network on a set of images, round by round, below one folder."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from densessl.commands.patch_training import describe_patch_training, train_patches
from densessl.commands.provenance import first_weights_provenance
from densessl.commands.training_claim import claim_folder, describe_images
from densessl.data.images import read_image
from densessl.data.masks import open_mask_folder
from densessl.data.soft_targets import SoftMaps, decidedness, open_target_cache
from densessl.errors import InputError, MissingInputError
from densessl.files import file_sha256, make_folder
from densessl.models.saliency_network import (
    SaliencyNetwork,
    SaliencyNetworkHeader,
    initial_saliency_network,
    load_saliency_network,
    save_saliency_network,
)
from densessl.saliency.attention_saliency import open_attention_encoder
from densessl.saliency.colour import FloatMap
from densessl.saliency.deep_estimator import load_encoder
from densessl.saliency.estimators import method_of
from densessl.saliency.feature_settings import ENCODER_METHODS
from densessl.saliency.generation import generate_proposals
from densessl.saliency.mask_provenance import masks_provenance
from densessl.saliency.network_saliency import view_with_logits
from densessl.saliency.outline_contrast import THRESHOLDS, outline_threshold
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageArray, ImageRef, ImageSet
from densessl.training.devices import make_fabric
from densessl.training.patch_training import PatchTrainingSettings
from densessl.training.run_folder import plain
from densessl.training.self_training import SelfTrainingSettings, train_saliency_network

_FREE = ("method", "network", "keep_soft")
"""Settings of saliency that do not concern the teachers and rounds: those of the folder that is made in the end."""
_RECORD = "self_training.json"
_NETWORK = "network.safetensors"
NUM_CALIBRATED = 300
"""At most so many images, spread evenly over the set, on which a trained network's threshold is found."""
MIN_CALIBRATED = 50
"""Of fewer images the threshold is not trusted; 0 stays."""


def self_train(
    images: ImageSet,
    out: Path,
    saliency: SaliencySettings,
    settings: SelfTrainingSettings,
    seed: int,
    num_workers: int | None = None,
    patches: PatchTrainingSettings | None = None,
) -> Path:
    """Train a saliency network on the maps of other estimators, then on its own, and return its file.

    Writes TEACHER/ for each teacher and round-1/, round-2/, ... below `out`, each a proposals folder with soft maps
    (the last round keeps its network alone), network.safetensors, and self_training.json, which says what they were
    made with. What is finished is not done again; a run that was stopped trains the network of its round anew.

    Args:
        images: the images to learn from; their labels are not read. One that cannot be decoded is left out.
        out: the folder to write.
        saliency: how the teachers refine and threshold their maps; `encoder` and `weights` serve those of the teachers
            that work on features.
        settings: rounds, network and schedule.
        seed: of initial weights, order and views.
        num_workers: processes that make the maps.
        patches: how the network of teacher `learned_patches` is trained, where it is one, below patch_training/.

    Raises:
        InputError: `out` was begun with other settings, weights or images, or anything that its parts raise.
    """
    patches = patches or PatchTrainingSettings()
    teachers = {teacher: _of_teacher(saliency, teacher) for teacher in settings.teachers}
    final = out / _NETWORK
    if not final.is_file():
        _check_encoders(teachers, saliency, settings)
    make_folder(out)
    defaults = {
        "saliency": SaliencySettings().plain(),
        "self_training": plain(asdict(SelfTrainingSettings())),
        "patch_training": describe_patch_training(PatchTrainingSettings()),
    }
    claim_folder(out, _RECORD, _describe(images, saliency, settings, patches, seed), defaults, ["patch_training"])
    if final.is_file():
        return final
    folders, weights = [], []
    for teacher, teacher_settings in teachers.items():
        folder = out / teacher
        if teacher == "learned_patches":
            network = train_patches(images, out / "patch_training", teacher_settings, patches, seed, num_workers)
            teacher_settings = replace(teacher_settings, network=network)
        generate_proposals(images, folder, teacher_settings, num_workers)
        folders.append(folder)
        weights.append(1 / len(teachers))
    for number in range(1, settings.rounds + 1):
        folder = out / f"round-{number}"
        make_folder(folder)
        network = folder / _NETWORK
        targets = SoftMaps(tuple(item / "soft" for item in folders), _with_teachers(weights, settings))
        if not network.is_file():
            _train_round(images, targets, out, number, settings, seed + number)
        if number < settings.rounds:
            student = replace(_of_teacher(saliency, "self_trained"), network=network)
            if settings.refine_until is not None and number > settings.refine_until:
                student = replace(student, refine="none")
            generate_proposals(images, folder, student, num_workers)
        weights = [settings.averaging * weight for weight in weights] + [1 - settings.averaging]
        folders.append(folder)
    trained, header = load_saliency_network(network)
    save_saliency_network(final, trained, header)
    return final


def _train_round(
    images: ImageSet,
    targets: SoftMaps,
    out: Path,
    number: int,
    settings: SelfTrainingSettings,
    seed: int,
) -> None:
    """Train the network of a round of the folder `out` and write it."""
    folder, earlier = out / f"round-{number}", out / f"round-{number - 1}"
    torch.manual_seed(seed)
    network, loaded = initial_saliency_network(
        settings.encoder, settings.weights, pretrained=settings.pretrained, decoder=settings.decoder
    )
    if settings.warm_start and number > 1:
        network.load_state_dict(load_saliency_network(earlier / _NETWORK)[0].state_dict())
    supervision = first_weights_provenance(settings.encoder, loaded, pretrained=settings.pretrained)
    usable = tuple(ref for ref in images.images if targets.has(ref.stem))
    kept = _most_decided(usable, targets, settings.kept_share if number >= settings.kept_from else 1)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(f"{folder.name}: {len(kept)} of {len(images)} images; initial weights: {supervision}")
    cache = None
    if settings.reduce_images and settings.cache_gb:
        cache = open_target_cache(folder / "cache", kept, targets, settings.views, settings.cache_gb * 1e9)
    loss = train_saliency_network(make_fabric("auto"), network, kept, targets, settings, seed, cache)
    if cache is not None:
        cache.remove()
    made_of = f"initial weights: {supervision}; targets: {_supervision(out, settings)}"
    header = SaliencyNetworkHeader(
        settings.encoder, settings.size_px, settings.view_share, made_of, settings.decoder, settings.scales
    )
    outcome = _calibrate(network.eval(), header, usable)
    console.print(f"{folder.name}: loss {loss:.4f} in the last epoch; {outcome}")
    save_saliency_network(folder / _NETWORK, network, header)


def _with_teachers(weights: list[float], settings: SelfTrainingSettings) -> tuple[float, ...]:
    """Return the weights of all maps, those of the teachers first, with the teachers' own share of every round."""
    num_teachers, share = len(settings.teachers), settings.teacher_share
    own = [share / num_teachers] * num_teachers + [0.0] * (len(weights) - num_teachers)
    return tuple(extra + (1 - share) * weight for extra, weight in zip(own, weights, strict=True))


def _most_decided(images: tuple[ImageRef, ...], targets: SoftMaps, share: float) -> tuple[ImageRef, ...]:
    """Return that share of the images, at least one, whose targets are most decided, in their order."""
    if share == 1 or not images:
        return images
    by_decidedness = sorted(images, key=lambda ref: decidedness(targets.read(ref.stem)), reverse=True)
    kept = {ref.stem for ref in by_decidedness[: max(1, round(share * len(images)))]}
    return tuple(ref for ref in images if ref.stem in kept)


def _calibrate(network: SaliencyNetwork, header: SaliencyNetworkHeader, images: tuple[ImageRef, ...]) -> str:
    """Shift the logits, so that 0 is the threshold at which outlines follow the most edges; says what was done.

    Noisy targets that cover too much, or views that show more of the middle than of the edge, leave a network with too
    much foreground at 0; the images tell where to cut instead, their labels are not needed. Nothing is shifted where
    there are few images, or where the best threshold is the end of what is compared, which is no optimum.
    """
    if len(images) < MIN_CALIBRATED:
        return f"threshold 0 kept: {len(images)} images, fewer than the {MIN_CALIBRATED} that tell a better one"
    some = images[:: -(-len(images) // NUM_CALIBRATED)]
    threshold = outline_threshold(_seen_by(network, header, some))
    if threshold in (min(THRESHOLDS), max(THRESHOLDS)):
        return f"threshold 0 kept: none from {min(THRESHOLDS):g} to {max(THRESHOLDS):g} follows edges best"
    network.shift_logits(-threshold)
    return f"outlines follow most edges at logit {threshold:g}"


def _seen_by(
    network: SaliencyNetwork, header: SaliencyNetworkHeader, images: tuple[ImageRef, ...]
) -> Iterator[tuple[ImageArray, FloatMap]]:
    """Yield images as a network sees them, and its logits; one damaged since its map was made is passed over."""
    for ref in images:
        try:
            image = read_image(ref.path)
        except InputError:
            continue
        yield view_with_logits(image, network, header)


def _of_teacher(saliency: SaliencySettings, teacher: str) -> SaliencySettings:
    """Return the settings of one teacher, or of a round's network; methods without features get no weights."""
    is_deep = teacher in ENCODER_METHODS
    return replace(
        saliency,
        method=method_of(teacher),
        network=None,
        keep_soft=True,
        weights=saliency.weights if is_deep else None,
        masks=saliency.masks if teacher == "file" else None,
        pretrained=saliency.pretrained and is_deep,
    )


def _supervision(out: Path, settings: SelfTrainingSettings) -> str:
    return "; ".join(masks_provenance(out / teacher) for teacher in settings.teachers)


def _check_encoders(
    teachers: dict[str, SaliencySettings], saliency: SaliencySettings, settings: SelfTrainingSettings
) -> None:
    """Build every encoder once, so that a mistyped name or weights that do not fit are noticed before any work."""
    deep = [teachers[name] for name in teachers if name in ENCODER_METHODS]
    for teacher in deep:
        (open_attention_encoder if teacher.method == "attention" else load_encoder)(teacher.features)
    if not deep and (saliency.weights is not None or saliency.pretrained):
        given = "pretrained true" if saliency.weights is None else f"weights {saliency.weights}"
        raise InputError(
            f"{given} is for teachers that work on features, which {', '.join(teachers)} do not; leave it out, or give "
            "the network's own initial weights as --self_training.weights or --self_training.pretrained"
        )
    if "file" not in teachers and saliency.masks is not None:
        raise InputError(
            f"masks {saliency.masks} are given, but none of the teachers {', '.join(teachers)} reads them; add file to "
            "--self_training.teachers, or leave them out"
        )
    if settings.encoder_lr_scale == 0 and settings.weights is None and not settings.pretrained:
        raise InputError(
            f"self_training.encoder_lr_scale is 0, which keeps the encoder {settings.encoder} as it is, and that is "
            "random; give --self_training.weights FILE or --self_training.pretrained true, or let it learn with "
            "--self_training.encoder_lr_scale 1"
        )
    initial_saliency_network(
        settings.encoder, settings.weights, pretrained=settings.pretrained, decoder=settings.decoder
    )


def _describe(
    images: ImageSet,
    saliency: SaliencySettings,
    settings: SelfTrainingSettings,
    patches: PatchTrainingSettings,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return what a folder's network depends on; files of weights and images by their content."""
    masks = saliency.masks if "file" in settings.teachers else None
    maps = None if masks is None else open_mask_folder(masks, images.images)
    record = {
        "saliency": {**saliency.plain(), "weights_sha256": _digest_of_file(saliency.weights)},
        "self_training": {**asdict(settings), "weights_sha256": _digest_of_file(settings.weights)},
        "images": describe_images(images, maps),
        "training": {"seed": seed},
    }
    if "learned_patches" in settings.teachers:
        record["patch_training"] = describe_patch_training(patches)
    for key in _FREE:
        record["saliency"].pop(key)
    for key in ("num_workers", "cache_gb"):
        record["self_training"].pop(key)
    return plain(record)  # type: ignore[no-any-return]


def _digest_of_file(path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise MissingInputError(f"no weights file {path}; give the file that {_RECORD} was begun with")
    return file_sha256(path)
