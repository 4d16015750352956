"""A DINO pretraining of seconds: timm's smallest vision transformer on the images of `tiny_training.draw_images`."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from densessl.data.image_folder import open_image_folder
from densessl.data.multi_crop_settings import MultiCropSettings
from densessl.models.projection_head import ProjectionHeadSettings
from densessl.models.self_distillation_network import SelfDistillationNetwork, build_self_distillation_network
from densessl.objectives.self_distillation import SelfDistillationSettings
from densessl.training.devices import make_fabric
from densessl.training.dino_settings import DinoRun, DinoScheduleSettings, DinoSettings
from densessl.training.dino_training import pretrain_dino
from densessl.training.pretraining import PretrainResult
from densessl.training.settings import TrainingSettings

ENCODER = "test_vit"
DINO = DinoSettings(
    ProjectionHeadSettings(num_outputs=16, hidden_dim=24, bottleneck_dim=8),
    MultiCropSettings(global_size_px=32, num_local=2, local_size_px=16),
    SelfDistillationSettings(teacher_warmup_epochs=0),
    DinoScheduleSettings(warmup_epochs=1, learning_rate=0.05),
)
TRAINING = TrainingSettings(
    epochs=3, batch_size=3, precision="fp32", num_workers=0, checkpoint_every=2, keep_checkpoints=3, log_every=1
)
RUN = DinoRun(DINO, TRAINING)
"""Six steps on the six images of `draw_images`."""


def changed(run: DinoRun = RUN, **groups: dict[str, Any]) -> DinoRun:
    """Return the settings with values of `training` or of DINO's groups replaced: `changed(schedule={...})`."""
    training = dataclasses.replace(run.training, **groups.pop("training", {}))
    parts = {name: dataclasses.replace(getattr(run.dino, name), **values) for name, values in groups.items()}
    return dataclasses.replace(run, dino=dataclasses.replace(run.dino, **parts), training=training)


def build(run: DinoRun = RUN) -> SelfDistillationNetwork:
    """Return a student with random weights."""
    torch.manual_seed(run.seed)
    return build_self_distillation_network(
        ENCODER, run.dino.head, size_px=run.dino.crops.global_size_px, drop_path=run.dino.schedule.drop_path
    )


def train(root: Path, folder: Path, run: DinoRun = RUN, *, resume: bool = False) -> PretrainResult:
    """Pretrain on the images of `draw_images`, on one thread."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fabric = make_fabric(run.training.precision)
        images = open_image_folder(root / "images").images
        return pretrain_dino(fabric, build(run), ENCODER, images, folder, run, resume=resume)
    finally:
        torch.set_num_threads(num_threads)


def train_part(root: Path, folder: Path, run: DinoRun) -> dict[str, torch.Tensor]:
    """Pretrain as one of several processes; returns what the run ends with."""
    train(root, folder, run)
    return {}
