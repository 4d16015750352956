"""The MaskContrast pretraining loop."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console

from densessl.data.confidence import open_confidence
from densessl.data.masks import MaskFolder
from densessl.data.source_cache import SourceCache
from densessl.data.view_sources import ViewSources, open_source_cache
from densessl.data.views import PairedViews, sources_for
from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.structures import ImageRef
from densessl.training.batches import load_batches
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.gradients import set_up
from densessl.training.mask_contrast_training import Evaluate, train
from densessl.training.pretrain_settings import PretrainSettings, check_negatives, check_parts
from densessl.training.run_folder import read_run_record, record_run, save_weights
from densessl.training.sampler import sampler_of
from densessl.training.settings import TrainingSettings
from densessl.training.sharding import whole
from densessl.training.state import new_state
from densessl.training.step_profile import StepProfile
from densessl.training.stored_views import GivenFeatures, StoredViews, one_thread, store_views, with_encoder


@dataclass(frozen=True)
class PretrainResult:
    """What a finished run did.

    `seconds` counts interrupted parts too, `num_replaced` the images passed over; `final_loss` is that of the last
    step, NaN where a run has none.
    """

    run: Path
    num_steps: int
    seconds: float
    final_loss: float
    num_replaced: int


def pretrain_model(
    fabric: Fabric,
    model: MaskContrastModel,
    images: tuple[ImageRef, ...],
    masks: MaskFolder,
    run: Path,
    settings: PretrainSettings,
    *,
    neighbours: NDArray[np.int64] | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    profile: bool = False,
) -> PretrainResult:
    """Train the network on pairs of views and write checkpoints, metrics and the final weights to the run folder.

    Args:
        fabric: device, precision and processes (`densessl.training.devices.make_fabric`).
        model: the network with its initial weights.
        images: the images that have a usable mask.
        masks: their masks.
        run: the run folder; `checkpoints/`, `metrics.jsonl`, `initial.safetensors`, `final.safetensors` are written.
        settings: of the run.
        neighbours: (num_images, num_neighbours), rows of `images`, where `settings.views.neighbours` asks for them.
        evaluate: called after every `settings.training.evaluate_every` epochs and at the end, by the first process.
        resume: go on from the last checkpoint, if there is one.
        profile: write where the time of a step goes to `profile.txt`.

    Raises:
        InputError: no image, a batch of one mask without a memory bank, a checkpoint of another architecture, a full
            disk, or a loss that is not a number (the last good checkpoint is kept).
    """
    if not images:
        raise InputError("no image with a usable mask is left to train on; look at rejected.json of the masks")
    training = settings.training
    if (evaluate is None) != (training.evaluate_every == 0):
        raise ValueError("evaluate is given exactly where settings.training.evaluate_every asks for it")
    if training.batch_size == 0:
        raise ValueError("training.batch_size 0 is resolved by find_batch_size first")
    check_parts(len(images), fabric.world_size, training)
    check_negatives(len(images), fabric.world_size, masks, settings)
    found = list_checkpoints(run / "checkpoints") if resume else []
    checkpoint = load_checkpoint(found[-1]) if found else None
    if checkpoint is None and fabric.is_global_zero:
        save_weights(run / "initial.safetensors", model.state_dict(), settings.model)
    confidence = open_confidence(masks, images) if settings.objective.confidence_weighted else None
    cache = _open_cache(fabric, sources_for(images, masks, settings.views, confidence), run, training)
    views = PairedViews(images, masks, settings.views, neighbours, cache, confidence)
    encoder = model.encoder
    stored = _store(fabric, encoder, views, run, settings) if settings.views.num_stored else None
    if stored is not None:
        model.encoder = GivenFeatures()  # type: ignore[assignment]
        evaluate = evaluate and with_encoder(encoder, evaluate)
    state = new_state(model, settings.model.embedding_dim, settings.objective, training, settings.seed)
    wrapped, optimizer = set_up(fabric, state, settings)
    if checkpoint is not None:
        state.load_checkpoint(checkpoint)
        if fabric.is_global_zero:
            _note_processes(run, state.step, checkpoint.get("world_size"), fabric.world_size)
    sampler = sampler_of(fabric, len(images), training, settings.seed, state.step)
    if stored is None:
        batches = load_batches(views, sampler, training.num_workers, fabric.device)
    else:
        batches = stored.batches(sampler, fabric.device)
    profiler = StepProfile(run, fabric.device, is_enabled=profile and fabric.is_global_zero)
    with nullcontext() if stored is None else one_thread(fabric.device):
        loss = train(fabric, state, wrapped, optimizer, batches, sampler, run, settings, evaluate, profiler)
    if stored is not None:
        state.model.encoder = encoder
    tensors = whole(state.model.state_dict())
    if fabric.is_global_zero:
        if cache is not None and training.cache is None:
            cache.remove()
        save_weights(run / "final.safetensors", tensors, settings.model)
    return PretrainResult(run, state.step, state.seconds, loss, state.num_replaced)


def _store(
    fabric: Fabric, encoder: torch.nn.Module, views: PairedViews, run: Path, settings: PretrainSettings
) -> StoredViews:
    """Return the views of a run whose heads train on stored features, encoding those that its folder lacks."""
    num_views, num_workers = settings.views.num_stored, settings.training.num_workers
    return store_views(fabric, encoder, views, run / "stored_views", num_views, num_workers, settings.seed)


def _open_cache(fabric: Fabric, sources: ViewSources, run: Path, training: TrainingSettings) -> SourceCache | None:
    """Return the cache of decoded images that all processes share, `None` where none is wanted."""
    if training.cache_gb == 0:
        return None
    cache = None
    if fabric.is_global_zero:
        cache = open_source_cache(training.cache or run / "cache", sources, training.cache_gb * 1e9)
        cache.report()
    return fabric.broadcast(cache)


def _note_processes(run: Path, step: int, before: int | None, now: int) -> None:
    """Say and record that a run goes on with another number of processes; None where the checkpoint does not know."""
    if before in {None, now}:
        return
    note = (
        f"the run goes on after step {step} with {now} in place of {before} processes: it is no longer what an "
        "uninterrupted run would have been to the last bit"
    )
    Console(stderr=True).print(note, highlight=False, markup=False, soft_wrap=True)
    entry = {"after_step": step, "before": before, "now": now, "is_exact": False}
    record_run(run, process_changes=[*read_run_record(run).get("process_changes", []), entry])
