"""How a promptable model is trained: the simulated interaction with a user, and the schedule."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from densessl.errors import InputError, check_at_least
from densessl.promptable.object_views import MOST_OBJECTS, ViewChoice
from densessl.promptable.simulated_prompts import BoxNoise, ClickPlaces


@dataclass(frozen=True)
class InteractionSettings:
    """How a user is simulated, and what is learned from each round; the defaults are SAM's (arXiv:2304.02643).

    Args:
        box_share: probability that the first prompt is a box and not a click.
        box_noise: standard deviation of a box's coordinates, as a share of its side.
        max_box_noise_px: the noise is cut off there, in pixels of the frame.
        middle_share: probability that a click lies in the middle of what it is for, where it is farthest from the edge
            (there the user of the evaluation clicks), and not anywhere in it (published: 0).
        num_points: rounds that each add a point from where the mask is wrong.
        num_refinements: rounds without a new point, in which the mask so far is all that is new; one at the end, others
            at random places.
        nested_targets: what the three masks of a click learn. one: the object that the click was drawn from, the best
            mask alone, as published; which of the nested objects that is changes from click to click, so that the
            masks divide them up. all: all objects of the image that contain the click, each by a mask of its own (the
            assignment of the lowest total loss), at most as many as there are masks; the same as one where objects do
            not overlap, as proposals of `saliency` never do.
        target_cell_px: masks are compared with their targets in cells of so many pixels of the frame: 4 (the decoder's
            own), 2 or 1 (its logits interpolated).
        focal_weight: of the focal loss.
        dice_weight: of the dice loss.
        iou_weight: of the squared error of the predicted IoU.
        objects_per_image: objects drawn from an image in a step, all if it has fewer. At most 64; of more than 64 in an
            image the smallest are left out.
        prompts_per_object: prompts drawn for each of them.
        flip: mirror every second image (published: no augmentation).
    """

    box_share: float = 0.5
    box_noise: float = 0.1
    max_box_noise_px: float = 20.0
    middle_share: float = 0.0
    num_points: int = 8
    num_refinements: int = 2
    nested_targets: Literal["one", "all"] = "one"
    target_cell_px: Literal[4, 2, 1] = 4
    focal_weight: float = 20.0
    dice_weight: float = 1.0
    iou_weight: float = 1.0
    objects_per_image: int = 64
    prompts_per_object: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        for name in ("box_share", "middle_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"interaction.{name} is {getattr(self, name)}; a probability lies in [0, 1]")
        at_least = {"box_noise": 0, "max_box_noise_px": 0, "num_points": 0, "num_refinements": 0, "focal_weight": 0}
        at_least |= {"dice_weight": 0, "iou_weight": 0, "objects_per_image": 1, "prompts_per_object": 1}
        check_at_least("interaction", self, at_least)
        if self.objects_per_image > MOST_OBJECTS:
            raise InputError(
                f"interaction.objects_per_image is {self.objects_per_image}; at most {MOST_OBJECTS} objects of an "
                f"image, the largest, are looked at; give {MOST_OBJECTS} or fewer"
            )
        if self.num_points + self.num_refinements == 0:
            raise InputError(
                "interaction.num_points and interaction.num_refinements are both 0, so that the single mask, which the "
                "rounds after the first learn, would never be trained; set one of them to 1 or more"
            )

    @property
    def noise(self) -> BoxNoise:
        """Of the boxes."""
        return BoxNoise(self.box_noise, self.max_box_noise_px)

    @property
    def places(self) -> ClickPlaces:
        """Where clicks lie."""
        return ClickPlaces(self.target_cell_px, self.middle_share)

    @property
    def choice(self) -> ViewChoice:
        """How images become views."""
        return ViewChoice(self.objects_per_image, self.prompts_per_object, self.flip, self.target_cell_px)


@dataclass(frozen=True)
class PromptableTrainingSettings:
    """How a promptable model is trained; the defaults are SAM's schedule (arXiv:2304.02643, appendix A).

    Published beside these, and not done here: drop path of 0.4 and a rate that falls by 0.8 from one layer of the
    encoder to the one before it.

    Args:
        epochs: passes over the images.
        batch_size: images per step over all processes; an epoch's last incomplete batch is dropped.
        learning_rate: of AdamW after the warm-up.
        encoder_lr_scale: the image encoder learns at learning_rate times this; of a timm backbone the backbone alone,
            the layers between it and the decoder learn at learning_rate.
        weight_decay: decoupled; of matrices and filters, not of biases and norms.
        schedule: step (a tenth from two thirds of the steps on, a hundredth at the very end, as published), cosine,
            poly or constant.
        warmup_steps: steps over which the rate rises linearly from 0.
        max_grad_norm: clip the gradient to this norm; 0 does not clip.
        trained_encoder: all, neck (a timm backbone stays as it is and only the layers between it and the decoder learn)
            or none (the whole image encoder stays as it is). What stays can be stored, see cache_gb.
        batch_norm: of a backbone that is trained: frozen (keeps its statistics), batch (those of each batch) or auto
            (frozen where training begins with weights, batch where with random ones).
        precision: auto (bf16 where the processor is fast at it, else fp32), fp32 or bf16.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
        cache_gb: store what the untrained part of the encoder makes of the images, at most so many gigabytes (1e9
            bytes), so that it is computed once; the images that do not fit are encoded each time.
        cache: folder of what is stored, new, empty or of an earlier run; further runs find it there, if the images with
            an object and the encoder are the same, and replace it if not. Without it that is in the run folder and goes
            when the run ends.
        checkpoint_every: steps between checkpoints; 0 writes one after each epoch.
        keep_checkpoints: how many checkpoints are kept.
        log_every: steps between log lines.
    """

    section: ClassVar[str] = "training"

    epochs: int = 2
    batch_size: int = 256
    learning_rate: float = 8e-4
    encoder_lr_scale: float = 1.0
    weight_decay: float = 0.1
    schedule: Literal["step", "cosine", "poly", "constant"] = "step"
    warmup_steps: int = 250
    max_grad_norm: float = 0.0
    trained_encoder: Literal["all", "neck", "none"] = "all"
    batch_norm: Literal["auto", "frozen", "batch"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    num_workers: int = -1
    cache_gb: float = 0.0
    cache: Path | None = None
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    log_every: int = 10

    def __post_init__(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "encoder_lr_scale": 0, "weight_decay": 0, "warmup_steps": 0}
        at_least |= {"max_grad_norm": 0, "num_workers": -1, "cache_gb": 0, "checkpoint_every": 0}
        check_at_least("training", self, {**at_least, "keep_checkpoints": 1, "log_every": 1})
        if not self.learning_rate > 0:
            raise InputError(f"training.learning_rate is {self.learning_rate}; it must be positive")
        if self.cache is not None and self.cache_gb == 0:
            raise InputError(
                f"training.cache is {self.cache}, but training.cache_gb is 0; say how many gigabytes it may take"
            )
        if self.cache_gb and self.trained_encoder == "all":
            raise InputError(
                f"training.cache_gb is {self.cache_gb}, but training.trained_encoder is all, so that no part of the "
                "encoder stays as it is; set trained_encoder to neck or none, or cache_gb to 0"
            )
