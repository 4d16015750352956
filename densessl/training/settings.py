"""The settings of a training run."""

from dataclasses import dataclass
from typing import Literal

from densessl.errors import InputError


@dataclass(frozen=True)
class TrainingSettings:
    """How the network is trained; the defaults are the published MaskContrast schedule.

    Args:
        epochs: passes over the images.
        batch_size: images per step over all processes; an epoch's last incomplete batch is dropped.
        optimizer: sgd or adamw.
        learning_rate: of the decoder and the heads at the start.
        encoder_lr_scale: the encoder learns at learning_rate times this.
        momentum: of sgd.
        weight_decay: L2 penalty (sgd) or decoupled decay (adamw).
        schedule: poly (power 0.9, lowered after each epoch, as published), cosine (lowered each step) or constant.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        max_grad_norm: clip the gradient to this norm; 0 does not clip.
        precision: auto (bf16 where the processor is fast at it, else fp32), fp32 or bf16.
        memory_format: auto (channels last for convolutional encoders), channels_last or contiguous.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
        checkpoint_every: steps between checkpoints; 0 writes one after each epoch.
        keep_checkpoints: how many checkpoints are kept.
        log_every: steps between log lines.
    """

    epochs: int = 40
    batch_size: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.004
    encoder_lr_scale: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    warmup_steps: int = 0
    max_grad_norm: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    num_workers: int = -1
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    log_every: int = 10

    def __post_init__(self) -> None:
        at_least = {
            "epochs": 0,
            "batch_size": 1,
            "learning_rate": 0,
            "encoder_lr_scale": 0,
            "momentum": 0,
            "weight_decay": 0,
            "warmup_steps": 0,
            "max_grad_norm": 0,
            "num_workers": -1,
            "checkpoint_every": 0,
            "keep_checkpoints": 1,
            "log_every": 1,
        }
        for name, lowest in at_least.items():
            value = getattr(self, name)
            if not value >= lowest:
                raise InputError(f"training.{name} is {value}; it must be at least {lowest}")
