"""The network as Fabric wraps it, and the gradients of one batch."""

from contextlib import nullcontext
from typing import cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from lightning_fabric.wrappers import _FabricModule

from densessl.models.precision import choose_memory_format
from densessl.structures import ViewBatch
from densessl.training.batch_norm import synchronise_batch_norm
from densessl.training.batches import split_batch
from densessl.training.compilation import can_compile
from densessl.training.finiteness import check_loss
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.recomputation import recompute_activations, unchanged_statistics
from densessl.training.sharding import shard_network
from densessl.training.state import TrainingState, build_optimizer
from densessl.training.step import StepResult, mean_result, training_step
from densessl.training.step_profile import stage


def set_up(
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


def find_gradients(
    fabric: Fabric, state: TrainingState, wrapped: torch.nn.Module, batch: ViewBatch, settings: PretrainSettings
) -> StepResult:
    """Run the forward and backward pass of a batch, in as many parts as the settings ask for."""
    training = settings.training
    parts = split_batch(batch, training.accumulate)
    results = []
    for number, part in enumerate(parts):
        shuffle_seed = None
        if training.batch_norm_sync == "shuffle":
            shuffle_seed = step_seed(settings.seed, state.step, 0) + number
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


def step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into one generator seed, so that a resumed run draws what the first would have."""
    return (seed * 1_000_003 + step * 9_973 + rank) % (2**63)
