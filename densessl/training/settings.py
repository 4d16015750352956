"""The settings of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from densessl.errors import InputError, check_at_least


@dataclass(frozen=True)
class TrainingSettings:
    """How the network is trained; the defaults are the published MaskContrast schedule.

    Args:
        epochs: passes over the images.
        batch_size: images per step over all processes; an epoch's last incomplete batch is dropped. 0 tries a few small
            steps and takes the largest power of two that fits into memory; the run's configuration keeps it.
        accumulate: cut each process's part of a batch into so many parts, one forward and backward pass each, before
            the weights change: less memory. A mask's negatives in the batch, and batch norm, are then those of its
            part; the memory bank is that of the whole step before.
        optimizer: sgd or adamw.
        learning_rate: of the decoder and the heads at the start.
        encoder_lr_scale: the encoder learns at learning_rate times this.
        momentum: of sgd.
        weight_decay: L2 penalty (sgd) or decoupled decay (adamw).
        schedule: poly (power 0.9, lowered after each epoch, as published), cosine (lowered each step) or constant.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        max_grad_norm: clip the gradient to this norm; 0 does not clip.
        precision: auto (bf16 where the processor is fast at it, else fp32), fp32 or bf16.
        memory_format: auto (channels last for convolutional encoders), channels_last or contiguous, which is all that
            sharded parameters can be.
        recompute_activations: keep only the input of each block of the encoder for the backward pass and compute the
            rest again: less memory for a third more time. The gradients are the same.
        compile: let torch.compile fuse the network's operations, where it finds a compiler; it takes minutes at the
            start. Measured on two CPU cores it gained 3 % (docs/decisions.md).
        strategy: what several processes hold: ddp (each holds the whole network, its twin and the optimiser's
            moments) or fsdp (each holds a part of them, for networks that are too large for one device).
        batch_norm_sync: what batch norm sees of several processes: none (each its own images, as PyTorch does without
            being asked), sync (the images of all, in both networks; of all processes as of one) or shuffle (the key
            images are spread over the processes at random, as published: MoCo, arXiv:1911.05722, section 3.3).
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
        cache_gb: keep decoded images and masks on disk, at most so many gigabytes (1e9 bytes), so that each is decoded
            once; those that do not fit are decoded each time. 0 keeps none. The views are the same.
        cache: folder of that cache, on a local disk at best; runs may share it. Without it the cache is in the run
            folder and goes when the run ends.
        checkpoint_every: steps between checkpoints; 0 writes one after each epoch.
        keep_checkpoints: how many checkpoints are kept.
        log_every: steps between log lines.
        evaluate_every: epochs between evaluations by clustering, whose numbers join the log; 0 for none.
        evaluate_with_labels: those evaluations also score the clusters against the labels of the images, for monitoring
            only; nothing is selected by them, and the record of the run says that they were read.
    """

    section: ClassVar[str] = "training"

    epochs: int = 40
    batch_size: int = 64
    accumulate: int = 1
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
    recompute_activations: bool = False
    compile: bool = False
    strategy: Literal["ddp", "fsdp"] = "ddp"
    batch_norm_sync: Literal["none", "sync", "shuffle"] = "none"
    num_workers: int = -1
    cache_gb: float = 0.0
    cache: Path | None = None
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    log_every: int = 10
    evaluate_every: int = 0
    evaluate_with_labels: bool = False

    def __post_init__(self) -> None:
        if self.strategy == "fsdp" and self.memory_format == "channels_last":
            raise InputError(
                "training.memory_format is channels_last, but training.strategy is fsdp, which cuts parameters in "
                "their contiguous form; use memory_format auto or contiguous, or strategy ddp"
            )
        at_least = {
            "epochs": 0,
            "batch_size": 0,
            "accumulate": 1,
            "learning_rate": 0,
            "encoder_lr_scale": 0,
            "momentum": 0,
            "weight_decay": 0,
            "warmup_steps": 0,
            "max_grad_norm": 0,
            "num_workers": -1,
            "cache_gb": 0,
            "checkpoint_every": 0,
            "keep_checkpoints": 1,
            "log_every": 1,
            "evaluate_every": 0,
        }
        check_at_least("training", self, at_least)
        if self.cache is not None and self.cache_gb == 0:
            raise InputError(
                f"training.cache is {self.cache}, but training.cache_gb is 0; say how many gigabytes it may take"
            )
        if self.evaluate_with_labels and not self.evaluate_every:
            raise InputError(
                "training.evaluate_with_labels is true, but training.evaluate_every is 0, so nothing is evaluated; set "
                "training.evaluate_every to a number of epochs, or leave the labels out"
            )
