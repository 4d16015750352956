"""The MaskContrast pretraining loop."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from lightning_fabric.wrappers import _FabricModule
from numpy.typing import NDArray
from rich.console import Console

from densessl.data.confidence import open_confidence
from densessl.data.masks import MaskFolder
from densessl.data.source_cache import SourceCache
from densessl.data.view_settings import ViewSettings
from densessl.data.view_sources import ViewSources, open_source_cache
from densessl.data.views import PairedViews, sources_for
from densessl.errors import InputError
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, build_model
from densessl.models.momentum_twin import update_twin
from densessl.models.precision import choose_memory_format
from densessl.objectives.settings import ObjectiveSettings
from densessl.structures import ImageRef, ViewBatch
from densessl.training.alarms import AlarmWatch
from densessl.training.batch_norm import synchronise_batch_norm
from densessl.training.batch_probe import fitting_batch_size, measured_peak, synthetic_batch, usable_memory
from densessl.training.batches import load_batches, split_batch
from densessl.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from densessl.training.compilation import can_compile
from densessl.training.devices import share_buffers
from densessl.training.finiteness import check_gradient, check_loss, check_weights
from densessl.training.log_line import describe_batch, describe_step
from densessl.training.recomputation import recompute_activations, unchanged_statistics
from densessl.training.run_folder import read_run_record, record_run, save_weights
from densessl.training.run_log import RunLog, last_logged_loss
from densessl.training.sampler import BatchSampler
from densessl.training.schedule import learning_rate_factor
from densessl.training.settings import TrainingSettings
from densessl.training.sharding import shard_network, whole
from densessl.training.state import TrainingState, build_optimizer, new_state, set_learning_rate
from densessl.training.step import StepResult, mean_result, training_step
from densessl.training.step_profile import StepProfile, stage, waiting
from densessl.training.throughput import ThroughputMeter

Evaluate = Callable[[MaskContrastModel], dict[str, float]]
"""Judges the network in training; returns what joins the log line."""


@dataclass(frozen=True)
class PretrainSettings:
    """All settings of a pretraining run, as `pretrain` takes them."""

    model: ModelSettings = field(default_factory=ModelSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more")
        if self.model.embedding_of == "masks" and self.objective.resolution == "full":
            raise InputError(
                "objective.resolution is full, which repeats pixels, but model.embedding_of is masks; use grid"
            )
        if self.model.embedding_of == "masks" and self.objective.pixels_per_mask:
            raise InputError(
                f"objective.pixels_per_mask is {self.objective.pixels_per_mask}, but model.embedding_of is masks, "
                "whose rows are no pixels; use 0"
            )
        if self.model.embedding_of == "masks" and self.objective.background != "none":
            raise InputError(
                f"objective.background is {self.objective.background}, but model.embedding_of is masks, and such a "
                "network embeds masks alone; use none, or embedding_of pixels"
            )
        if (self.objective.swav_weight > 0) != (self.model.num_prototypes > 0):
            raise InputError(
                f"objective.swav_weight is {self.objective.swav_weight} and model.num_prototypes "
                f"{self.model.num_prototypes}; they go together, so give both a value above 0, or neither"
            )


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
    _check_parts(len(images), fabric.world_size, training)
    _check_negatives(len(images), fabric.world_size, masks, settings)
    found = list_checkpoints(run / "checkpoints") if resume else []
    checkpoint = load_checkpoint(found[-1]) if found else None
    if checkpoint is None and fabric.is_global_zero:
        save_weights(run / "initial.safetensors", model.state_dict(), settings.model)
    state = new_state(model, settings.model.embedding_dim, settings.objective, training, settings.seed)
    wrapped, optimizer = _set_up(fabric, state, settings)
    if checkpoint is not None:
        state.load_checkpoint(checkpoint)
        if fabric.is_global_zero:
            _note_processes(run, state.step, checkpoint.get("world_size"), fabric.world_size)
    sampler = BatchSampler(
        len(images),
        training.batch_size,
        training.epochs,
        settings.seed,
        first_step=state.step,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    confidence = open_confidence(masks, images) if settings.objective.confidence_weighted else None
    sources = sources_for(images, masks, settings.views, confidence)
    cache = _open_cache(fabric, sources, run, training)
    views = PairedViews(images, masks, settings.views, neighbours, cache, confidence)
    batches = load_batches(views, sampler, training.num_workers, fabric.device)
    profiler = StepProfile(run, fabric.device, is_enabled=profile and fabric.is_global_zero)
    loss = _train(fabric, state, wrapped, optimizer, batches, sampler, run, settings, evaluate, profiler)
    tensors = whole(state.model.state_dict())
    if fabric.is_global_zero:
        if cache is not None and training.cache is None:
            cache.remove()
        save_weights(run / "final.safetensors", tensors, settings.model)
    return PretrainResult(run, state.step, state.seconds, loss, state.num_replaced)


def find_batch_size(fabric: Fabric, settings: PretrainSettings, num_images: int) -> int:
    """Return the largest power of two of images per step, over all processes, that fits into memory.

    Small steps are taken with a network of its own; what they need tells the rest. At least one image for each process
    and part of a step, and at most `num_images`.

    Raises:
        InputError: the system does not say how much memory a step needs (a CPU under another system than Linux).
    """

    views = settings.views

    def peak_bytes(num: int) -> float:
        training = replace(settings.training, batch_size=num, accumulate=1, compile=False)
        probed = replace(settings, training=training)
        model = build_model(settings.model)
        state = new_state(model, settings.model.embedding_dim, settings.objective, training, settings.seed)
        wrapped, optimizer = _set_up(fabric, state, probed)
        wrapped.train()
        with measured_peak(fabric.device) as peak:
            for _ in range(2):  # the optimiser has moments from the second step on
                optimizer.zero_grad()
                is_weighted = settings.objective.confidence_weighted
                batch = synthetic_batch(num, views, has_confidence=is_weighted)
                _find_gradients(fabric, state, wrapped, batch, probed)
                optimizer.step()
        most = fabric.all_reduce(torch.tensor(peak.bytes, dtype=torch.float64, device=fabric.device), reduce_op="max")
        return float(torch.as_tensor(most))  # the same in all processes, which must agree on whether to measure again

    num_parts = fabric.world_size * settings.training.accumulate
    fitting = fitting_batch_size(peak_bytes, usable_memory(fabric.device), max(1, num_images // num_parts))
    fewest = fabric.all_reduce(torch.tensor(fitting, device=fabric.device) * -1.0, reduce_op="max")
    return num_parts * round(-float(torch.as_tensor(fewest)))


def _open_cache(fabric: Fabric, sources: ViewSources, run: Path, training: TrainingSettings) -> SourceCache | None:
    """Return the cache of decoded images that all processes share, `None` where none is wanted."""
    if training.cache_gb == 0:
        return None
    cache = None
    if fabric.is_global_zero:
        cache = open_source_cache(training.cache or run / "cache", sources, training.cache_gb * 1e9)
        cache.report()
    return fabric.broadcast(cache)


def _check_parts(num_images: int, num_processes: int, training: TrainingSettings) -> None:
    """Refuse more parts than a process has images: processes with unlike numbers of parts would wait for each other."""
    num_own = min(num_images, training.batch_size) // num_processes
    if 0 < num_own < training.accumulate:  # none at all is refused by the sampler
        raise InputError(
            f"training.accumulate is {training.accumulate}, but a process sees {num_own} images per step "
            f"(training.batch_size {training.batch_size}, {num_images} usable images, {num_processes} processes); "
            "lower it, or raise training.batch_size"
        )


def _check_negatives(num_images: int, num_processes: int, masks: MaskFolder, settings: PretrainSettings) -> None:
    """Refuse batches of a single mask without a memory bank: nothing is pushed away, and the loss is zero."""
    num_apart = num_processes if settings.objective.negatives == "local" else 1
    num_seen = min(num_images, settings.training.batch_size) // (num_apart * settings.training.accumulate)
    is_merged = settings.views.neighbours > 0
    has_several = not is_merged and (
        settings.views.split_instances or masks.encoding in {"instances", "palette labels"}
    )
    has_background = settings.objective.background == "negatives"
    if settings.objective.queue_length == 0 and num_seen == 1 and not (has_several or has_background):
        raise InputError(
            "objective.queue_length is 0 and a process sees 1 image, so one mask, per step (training.batch_size "
            f"{settings.training.batch_size}, {num_images} usable images, {num_processes} processes): it has no "
            "negative, and the contrastive loss would be zero. Give objective.queue_length a length (published 128), "
            "raise training.batch_size, or set views.split_instances where images hold several objects"
        )


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


def _set_up(
    fabric: Fabric, state: TrainingState, settings: PretrainSettings
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Move the state to the device and wrap network and optimiser for the precision and the processes there are."""
    training = settings.training
    if training.recompute_activations:
        recompute_activations(state.model, settings.model.encoder)
    mesh = fabric.strategy.device_mesh if isinstance(fabric.strategy, ModelParallelStrategy) else None
    for network in (state.model, state.twin):
        if fabric.world_size > 1 and training.batch_norm_sync == "sync":
            synchronise_batch_norm(network, fabric.device)
        if mesh is None:
            memory_format = choose_memory_format(training.memory_format, network)
            network.to(memory_format=memory_format)  # type: ignore[call-overload]
    if mesh is None:
        wrapped, optimizer = fabric.setup(state.model, state.optimizer)
        fabric.to_device(state.twin)
    else:
        wrapped = fabric.setup_module(state.model)
        shard_network(state.twin, mesh)
        state.optimizer = build_optimizer(state.model, training, is_fused=False)
        optimizer = cast(torch.optim.Optimizer, fabric.setup_optimizers(state.optimizer))
    if training.compile and can_compile():
        for network in (state.model, state.twin):
            network.compile()
    state.twin.train()
    state.bank.to(fabric.device)  # Fabric leaves modules where they are when it shards
    return wrapped, optimizer


def _train(
    fabric: Fabric,
    state: TrainingState,
    wrapped: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[ViewBatch, int]],
    sampler: BatchSampler,
    run: Path,
    settings: PretrainSettings,
    evaluate: Evaluate | None,
    profiler: StepProfile,
) -> float:
    """Run the steps from `state.step` to the end; returns the last loss, the logged one where no step was left."""
    training, twin, bank = settings.training, state.twin, state.bank
    num_steps = sampler.steps_per_epoch * training.epochs
    every = training.checkpoint_every or sampler.steps_per_epoch
    watch = AlarmWatch(training, settings.objective, settings.views, num_steps, fabric.world_size)
    with RunLog(run, num_steps, state.step, watch, is_shown=fabric.is_global_zero) as log:
        last_loss = last_logged_loss(run)
        wrapped.train()
        meter = ThroughputMeter(sampler.images_per_step)
        for batch, num_replaced in waiting(batches):
            meter.loaded()
            learning_rate = training.learning_rate * learning_rate_factor(
                training.schedule,
                state.step,
                steps_per_epoch=sampler.steps_per_epoch,
                epochs=training.epochs,
                warmup_steps=training.warmup_steps,
            )
            set_learning_rate(state.optimizer, learning_rate)
            torch.manual_seed(_step_seed(settings.seed, state.step, fabric.global_rank))
            state.model.normalise_prototypes()
            with stage("update twin"):
                update_twin(twin, state.model, settings.objective.momentum)
                for network in (twin, state.model):
                    share_buffers(fabric, network)
            optimizer.zero_grad()  # before the forward pass, so that gradients and features do not add up in memory
            result = _find_gradients(fabric, state, wrapped, batch, settings)
            with stage("optimiser"):
                if training.max_grad_norm > 0:
                    most = training.max_grad_norm
                    norm = fabric.clip_gradients(wrapped, optimizer, max_norm=most, error_if_nonfinite=False)
                    check_gradient(cast(torch.Tensor, norm), state.step + 1, training)
                optimizer.step()
            with stage("memory bank"):
                bank.enqueue(result.term.prototypes)
            state.step += 1
            state.num_replaced += num_replaced
            state.seconds += meter.stepped()
            last_loss = float(result.loss.detach())
            log.advance(state.step)
            with stage("log and checkpoint"):
                is_judged = evaluate is not None and _ends_evaluated_epoch(state.step, sampler, training)
                if is_judged or state.step % training.log_every == 0 or state.step == num_steps:
                    place = {"step": state.step, "epoch": (state.step - 1) // sampler.steps_per_epoch}
                    rates = {"learning_rate": learning_rate, **meter.read()}
                    line = {
                        **place,
                        **describe_step(result, bank),
                        **describe_batch(batch, state, fabric.device),
                        **rates,
                    }
                    is_needed = fabric.is_global_zero or training.strategy == "fsdp"  # parts of a network work together
                    if is_judged and evaluate is not None and is_needed:
                        line |= _evaluate_undisturbed(evaluate, state.model, wrapped)
                        meter.skip()
                    log.write(line)
                if state.step % every == 0 or state.step == num_steps:
                    _save_together(fabric, run / "checkpoints", state, training)
            table = profiler.stepped(is_last=state.step == num_steps)
            if table is not None:
                log.say(table)
                meter.skip()
            meter.asked()
    return last_loss


def _save_together(fabric: Fabric, folder: Path, state: TrainingState, training: TrainingSettings) -> None:
    """Let rank 0 write a checkpoint; where it cannot, all processes raise, so that none waits for another."""
    checkpoint, fault = {**state.to_checkpoint(), "world_size": fabric.world_size}, None
    if fabric.is_global_zero:
        try:
            check_weights(checkpoint["model"], state.step, training)
            save_checkpoint(folder, state.step, checkpoint, training.keep_checkpoints)
        except InputError as error:
            fault = str(error)
    fault = fabric.broadcast(fault)
    if fault is not None:
        raise InputError(fault)


def _find_gradients(
    fabric: Fabric, state: TrainingState, wrapped: torch.nn.Module, batch: ViewBatch, settings: PretrainSettings
) -> StepResult:
    """Run the forward and backward pass of a batch, in as many parts as the settings ask for."""
    training = settings.training
    parts = split_batch(batch, training.accumulate)
    results = []
    for number, part in enumerate(parts):
        shuffle_seed = None
        if training.batch_norm_sync == "shuffle":
            shuffle_seed = _step_seed(settings.seed, state.step, 0) + number
        waits = number < len(parts) - 1
        with fabric.no_backward_sync(cast(_FabricModule, wrapped), enabled=waits):  # what `fabric.setup` returned
            result = training_step(
                fabric,
                wrapped,
                state.twin,
                state.bank.prototypes,
                part,
                settings.objective,
                settings.model.embedding_of,
                shuffle_seed,
                min(int(state.bank.num_enqueued), state.bank.length) if settings.objective.swav_use_bank else 0,
            )
            check_loss(fabric, result, state.step + 1, training)
            again = unchanged_statistics(state.model) if training.recompute_activations else nullcontext()
            with stage("backward"), again:
                fabric.backward(result.loss / len(parts))
        results.append(result)
    return mean_result(results)


def _ends_evaluated_epoch(step: int, sampler: BatchSampler, training: TrainingSettings) -> bool:
    """Say whether a step is the last of an epoch after which the network is evaluated, or the last of all."""
    epochs_done, rest = divmod(step, sampler.steps_per_epoch)
    return rest == 0 and (epochs_done % training.evaluate_every == 0 or epochs_done == training.epochs)


def _evaluate_undisturbed(evaluate: Evaluate, model: MaskContrastModel, wrapped: torch.nn.Module) -> dict[str, float]:
    """Evaluate the network and put it back into training mode; training's random numbers stay what they were.

    Batch-norm statistics do not change in evaluation mode, and no gradient is kept.
    """
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        model.eval()
        found = evaluate(model)
    wrapped.train()
    return found


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into one generator seed, so that a resumed run draws what the first would have."""
    return (seed * 1_000_003 + step * 9_973 + rank) % (2**63)
