"""All settings of a pretraining run, and what they may not be together or for a set of images."""

from dataclasses import dataclass, field

from densessl.data.masks import MaskFolder
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.models.mask_contrast_model import ModelSettings
from densessl.objectives.settings import ObjectiveSettings
from densessl.training.settings import TrainingSettings


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
        if self.views.num_stored:
            self._check_stored_views()
        if (self.objective.swav_weight > 0) != (self.model.num_prototypes > 0):
            raise InputError(
                f"objective.swav_weight is {self.objective.swav_weight} and model.num_prototypes "
                f"{self.model.num_prototypes}; they go together, so give both a value above 0, or neither"
            )

    def _check_stored_views(self) -> None:
        """Refuse what pooled features of stored views cannot be trained with."""
        wanted = {
            "model.embedding_of": (self.model.embedding_of, "masks"),
            "model.decoder": (self.model.decoder, "none"),
            "objective.saliency_weight": (self.objective.saliency_weight, 0.0),
            "objective.confidence_weighted": (self.objective.confidence_weighted, False),
            "training.strategy": (self.training.strategy, "ddp"),
            "training.recompute_activations": (self.training.recompute_activations, False),
        }
        for name, (value, needed) in wanted.items():
            if value != needed:
                raise InputError(
                    f"{name} is {value}, but views.num_stored is {self.views.num_stored}, which keeps one pooled "
                    f"feature of each view; use {str(needed).lower()}, or set views.num_stored to 0"
                )
        if self.training.batch_size == 0:
            raise InputError(
                "training.batch_size is 0 (find what fits), but with views.num_stored a batch of thousands fits; give "
                "a number, such as 64"
            )


def check_parts(num_images: int, num_processes: int, training: TrainingSettings) -> None:
    """Refuse more parts than a process has images: processes with unlike numbers of parts would wait for each other."""
    num_own = min(num_images, training.batch_size) // num_processes
    if 0 < num_own < training.accumulate:  # none at all is refused by the sampler
        raise InputError(
            f"training.accumulate is {training.accumulate}, but a process sees {num_own} images per step "
            f"(training.batch_size {training.batch_size}, {num_images} usable images, {num_processes} processes); "
            "lower it, or raise training.batch_size"
        )


def check_negatives(num_images: int, num_processes: int, masks: MaskFolder, settings: PretrainSettings) -> None:
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
