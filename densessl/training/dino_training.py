"""The DINO pretraining loop: assembles state, data and loop, and writes the run's files."""

from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric

from densessl.data.multi_crop import MultiCropViews, collate_crops
from densessl.errors import InputError
from densessl.models.network_file import save_network
from densessl.models.self_distillation_network import SelfDistillationNetwork
from densessl.structures import ImageRef
from densessl.training.batches import draw_batches
from densessl.training.checkpoints import list_checkpoints, load_checkpoint
from densessl.training.dino_alarms import DinoWatch
from densessl.training.dino_settings import DinoRun
from densessl.training.dino_state import new_dino_state
from densessl.training.dino_steps import CHECKPOINT_KIND, DinoSteps
from densessl.training.pretraining import PretrainResult
from densessl.training.sampler import sampler_of
from densessl.training.step_profile import StepProfile
from densessl.training.training_loop import run_steps


def pretrain_dino(
    fabric: Fabric,
    network: SelfDistillationNetwork,
    encoder: str,
    images: tuple[ImageRef, ...],
    run: Path,
    settings: DinoRun,
    *,
    resume: bool = False,
    profile: bool = False,
) -> PretrainResult:
    """Train a student and its teacher; write checkpoints, metrics and the teacher's encoder to the run folder.

    Args:
        fabric: device, precision and processes.
        network: the student with its initial weights.
        encoder: its timm name, for the header of the weights.
        images: to train on.
        run: `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `initial.safetensors` and `final.safetensors` are written.
        settings: of the run.
        resume: go on from the last checkpoint, if there is one.
        profile: write where the time of a step goes to `profile.txt`.

    Raises:
        InputError: no image, a checkpoint of another architecture, a full disk, or a loss that is not a number (the
            last good checkpoint is kept).
    """
    if not images:
        raise InputError("no image is left to train on; look at left_out.json in the run folder")
    training = settings.training
    found = list_checkpoints(run / "checkpoints") if resume else []
    checkpoint = load_checkpoint(found[-1], CHECKPOINT_KIND) if found else None
    if checkpoint is None and fabric.is_global_zero:
        _save_encoder(run / "initial.safetensors", network, encoder)
    state = new_dino_state(network, settings.dino.schedule)
    wrapped, optimizer = fabric.setup(state.student, state.optimizer)
    fabric.to_device(state.teacher)
    state.center = fabric.to_device(state.center)
    if checkpoint is not None:
        state.load_checkpoint(checkpoint)
    wrapped.train()
    sampler = sampler_of(fabric, len(images), training, settings.seed, state.step)
    views = MultiCropViews(images, settings.dino.crops)
    batches = draw_batches(views, sampler, training.num_workers, collate_crops, fabric.device)
    steps = DinoSteps(fabric, state, wrapped, cast(torch.optim.Optimizer, optimizer), sampler, settings)
    profiler = StepProfile(run, fabric.device, is_enabled=profile and fabric.is_global_zero)
    loss = run_steps(fabric, steps, batches, sampler, run, settings, DinoWatch(settings), profiler)
    if fabric.is_global_zero:
        _save_encoder(run / "final.safetensors", state.teacher, encoder)
    return PretrainResult(run, state.step, state.seconds, loss, num_replaced=0)


def _save_encoder(path: Path, network: SelfDistillationNetwork, encoder: str) -> None:
    """Write the encoder alone, by names that every command with a setting `weights` takes; the head is of no use."""
    save_network(path, network.encoder_tensors(), "dino_encoder", {"encoder": encoder})
