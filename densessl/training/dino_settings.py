"""The settings of a DINO pretraining, and which settings of `pretrain` do not belong to it."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from densessl.changed_settings import changed_settings
from densessl.data.multi_crop_settings import MultiCropSettings
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.models.mask_contrast_model import ModelSettings
from densessl.models.projection_head import ProjectionHeadSettings
from densessl.objectives.self_distillation import SelfDistillationSettings
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.settings import TrainingSettings

USED_OF_MODEL = {"encoder", "weights", "pretrained"}
USED_OF_TRAINING = {
    *("epochs", "batch_size", "precision", "num_workers"),
    *("checkpoint_every", "keep_checkpoints", "log_every"),
}
_COUNTERPARTS = {
    "objective.temperature": "dino.distillation.student_temperature",
    "objective.momentum": "dino.distillation.teacher_momentum",
    "training.learning_rate": "dino.schedule.learning_rate",
    "training.weight_decay": "dino.schedule.weight_decay",
    "training.warmup_steps": "dino.schedule.warmup_epochs",
    "training.max_grad_norm": "dino.schedule.max_grad_norm",
    "views.size_px": "dino.crops.global_size_px",
    "views.min_scale": "dino.crops.global_min_scale",
    "views.max_scale": "dino.crops.global_max_scale",
    "views.num_local": "dino.crops.num_local",
    "views.local_size_px": "dino.crops.local_size_px",
    "views.local_min_scale": "dino.crops.local_min_scale",
    "views.local_max_scale": "dino.crops.local_max_scale",
    "views.flip": "dino.crops.flip",
    "views.jitter": "dino.crops.jitter",
    "views.grayscale": "dino.crops.grayscale",
    "views.reduce_images": "dino.crops.reduce_images",
}


@dataclass(frozen=True)
class DinoScheduleSettings:
    """How AdamW trains the student; the defaults are DINO's (arXiv:2104.14294, section 3.2 and appendix C).

    Epochs and batch size are those of the group training.

    Args:
        learning_rate: for 256 images a step, after the warm-up; that of a run is proportional to its batch size.
        final_learning_rate: to which it falls along a cosine; not proportional to anything.
        warmup_epochs: over which it rises linearly from 0 (published 10).
        weight_decay: decoupled, at the start; of matrices and filters, not of biases and norms.
        final_weight_decay: to which it rises along a cosine.
        max_grad_norm: the gradient of each tensor is clipped to this norm, as in the published code; 0 does not clip.
        frozen_last_layer_epochs: first epochs in which the last layer of the head stays as it is.
        drop_path: rate of stochastic depth in the student's last block, lower ones before it.
    """

    section: ClassVar[str] = "dino.schedule"

    learning_rate: float = 0.0005
    final_learning_rate: float = 1e-6
    warmup_epochs: int = 10
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4
    max_grad_norm: float = 3.0
    frozen_last_layer_epochs: int = 1
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        for name in (item.name for item in fields(self)):
            if not getattr(self, name) >= 0:
                raise InputError(f"dino.schedule.{name} is {getattr(self, name)}; it must be 0 or more")
        if not self.drop_path < 1:
            raise InputError(f"dino.schedule.drop_path is {self.drop_path}; a rate below 1 is needed (published 0.1)")


@dataclass(frozen=True)
class DinoSettings:
    """What is DINO's own in a pretraining.

    Args:
        head: the projection head.
        crops: how an image is cut and recoloured.
        distillation: temperatures and momenta.
        schedule: how the student learns.
    """

    head: ProjectionHeadSettings = field(default_factory=ProjectionHeadSettings)
    crops: MultiCropSettings = field(default_factory=MultiCropSettings)
    distillation: SelfDistillationSettings = field(default_factory=SelfDistillationSettings)
    schedule: DinoScheduleSettings = field(default_factory=DinoScheduleSettings)


@dataclass(frozen=True)
class DinoRun:
    """All settings of a DINO run that its steps read, the loop's among them (`LoopSettings`).

    `training` is used as `USED_OF_TRAINING` says.
    """

    dino: DinoSettings
    training: TrainingSettings
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more")
        if self.training.batch_size == 0:
            raise InputError(
                "training.batch_size is 0 (find what fits), which objective.method dino does not offer; give a number "
                "(published 1024), by which the learning rate goes"
            )
        epochs = self.training.epochs
        for name, value in (
            ("dino.schedule.warmup_epochs", self.dino.schedule.warmup_epochs),
            ("dino.distillation.teacher_warmup_epochs", self.dino.distillation.teacher_warmup_epochs),
        ):
            if value > epochs:
                raise InputError(
                    f"{name} is {value}, but training.epochs is {epochs}; lower the first, or train for longer"
                )

    section: ClassVar[str] = DinoScheduleSettings.section

    @property
    def learning_rate(self) -> float:
        """For 256 images a step."""
        return self.dino.schedule.learning_rate

    @property
    def max_grad_norm(self) -> float:
        """Of the gradient of each tensor."""
        return self.dino.schedule.max_grad_norm

    @property
    def epochs(self) -> int:
        """Passes over the images."""
        return self.training.epochs

    @property
    def log_every(self) -> int:
        """Steps between log lines."""
        return self.training.log_every

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints; 0 writes one after each epoch."""
        return self.training.checkpoint_every

    @property
    def keep_checkpoints(self) -> int:
        """How many checkpoints are kept."""
        return self.training.keep_checkpoints


def check_unused(
    model: ModelSettings, views: ViewSettings, objective: ObjectiveSettings, training: TrainingSettings
) -> None:
    """Refuse settings that a DINO pretraining would pass over.

    Raises:
        InputError: one that is not at its default; names the setting of DINO that takes its place, where there is one.
    """
    for group, given, used in (
        ("model", model, USED_OF_MODEL),
        ("views", views, set()),
        ("objective", objective, {"method"}),
        ("training", training, USED_OF_TRAINING),
    ):
        for name, value in changed_settings(given, type(given)()).items():
            if name not in used:
                instead = _COUNTERPARTS.get(f"{group}.{name}")
                remedy = "leave it out" if instead is None else f"set {instead}"
                raise InputError(f"{group}.{name} is {value}, but objective.method dino does not use it; {remedy}")
