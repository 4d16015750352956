"""Fine-tuning with labels: a segmentation network learns label maps, its encoder stage by stage at falling rates."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from densessl.data.label_targets import LabelView, LabelViews, collate_labels
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError, check_at_least
from densessl.models.encoder_stages import encoder_stages
from densessl.models.precision import choose_memory_format
from densessl.models.saliency_network import SIZE_RANGE_PX
from densessl.models.segmentation_network import Decoder, SegmentationNetwork
from densessl.structures import IGNORE, ImageRef, LabelMap, LabelReader
from densessl.training.batches import draw_batches
from densessl.training.finetuning_checkpoint import FinetuneProgress, resume_finetuning, save_finetuning
from densessl.training.network_fitting import descend, freeze_batch_norm, open_progress, set_learning_rate
from densessl.training.sampler import BatchSampler
from densessl.training.self_labelling import labelled_cross_entropy


@dataclass(frozen=True)
class FinetuneSettings:
    """How a segmentation network is trained on label maps.

    Args:
        epochs: passes over the images; the weights of the last one are used.
        decoder: linear (a 1x1 convolution on the last feature map), deeplabv3 (any encoder) or unet (convolutional
            encoders).
        trained_stages: so many of the encoder's last stages learn; -1 for all, 0 for none. The stages are the stem and
            the levels of resolution of a convolutional network, the embedding and the blocks of a vision transformer.
        learning_rate: of the decoder, by AdamW; it rises over the first tenth of the steps, at most 20, and falls to 0
            along a half cosine.
        encoder_lr_scale: the encoder's last stage learns at learning_rate times this.
        stage_decay: each stage learns at the rate of the one after it times this (Clark et al., ICLR 2020,
            arXiv:2003.10555; BEiT, arXiv:2106.08254), in (0, 1].
        weight_decay: decoupled.
        size_px: height and width of the training views, 32 to 4096; images are scored at the scale of the views.
        min_scale: smallest share of an image's area that a view shows, in (0, 1].
        jitter: probability of changed colours.
        batch_size: images per step.
        precision: auto (bf16 where the processor is fast at it, else fp32), fp32 or bf16.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
    """

    epochs: int = 20
    decoder: Decoder = "linear"
    trained_stages: int = -1
    learning_rate: float = 1e-3
    encoder_lr_scale: float = 0.1
    stage_decay: float = 0.75
    weight_decay: float = 1e-2
    size_px: int = 320
    min_scale: float = 0.3
    jitter: float = 0.5
    batch_size: int = 16
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    num_workers: int = -1

    def __post_init__(self) -> None:
        at_least = {"epochs": 1, "batch_size": 1, "encoder_lr_scale": 0, "weight_decay": 0, "trained_stages": -1}
        check_at_least("finetune", self, {**at_least, "num_workers": -1})
        smallest, largest = SIZE_RANGE_PX
        if not smallest <= self.size_px <= largest:
            raise InputError(f"finetune.size_px is {self.size_px}; a view has {smallest} to {largest} pixels")
        for name in ("min_scale", "stage_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"finetune.{name} is {getattr(self, name)}; it lies in (0, 1]")
        if not 0 <= self.jitter <= 1:
            raise InputError(f"finetune.jitter is {self.jitter}; a probability lies in [0, 1]")
        if not self.learning_rate > 0:
            raise InputError(f"finetune.learning_rate is {self.learning_rate}; it must be positive")

    @property
    def views(self) -> ViewSettings:
        """How the training views are drawn."""
        return ViewSettings(size_px=self.size_px, min_scale=self.min_scale, jitter=self.jitter, grayscale=0.0)

    @property
    def view_share(self) -> float:
        """Mean share of an image's area that a training view shows."""
        return (self.views.min_scale + self.views.max_scale) / 2


@dataclass(frozen=True)
class FinetuneOutcome:
    """losses: mean of each epoch, in nats. stage_scales: what each stage's rate is of learning_rate, the stem first.

    seconds: of training, in this call. notes: what a reader must know, in words.
    """

    losses: tuple[float, ...]
    stage_scales: tuple[float, ...]
    seconds: float
    notes: tuple[str, ...]


def finetune_network(
    fabric: Fabric,
    network: SegmentationNetwork,
    images: tuple[ImageRef, ...],
    labels: LabelReader,
    classes: tuple[int, ...],
    settings: FinetuneSettings,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, float], None] = lambda epoch, loss: None,
) -> FinetuneOutcome:
    """Train a network on label maps, in place, with the cross-entropy over the pixels that have a class.

    The encoder's batch norm keeps its statistics. With a `checkpoint` file training goes on after the last whole epoch
    that is in it, to the weights that it would have had without the interruption.

    Args:
        fabric: device and precision, one process.
        network: with its initial weights, and a logit for each of `classes`.
        images: the training images.
        labels: reads their label maps.
        classes: what is learned, in the order of the logits; pixels of other labels, and 255, are ignored.
        settings: `decoder` is that of the network.
        seed: of the order of images, the views and dropout.
        checkpoint: written after each epoch; None to keep nothing.
        progress: takes each epoch (0-based) and its mean loss.

    Raises:
        InputError: no image, a label outside 0-255, an epoch without a labelled pixel, a loss that is not a number, or
            a checkpoint of another training.
    """
    if not images:
        raise InputError("there is no training image to fine-tune on; check the split")
    network.to(memory_format=choose_memory_format("auto", network))  # type: ignore[call-overload]
    fabric.to_device(network)  # a resumed optimiser's state goes to where its weights are
    optimizer, stage_scales = build_staged_optimizer(network, settings)
    identity = json.dumps([asdict(settings), seed, list(classes), len(images)])
    done = FinetuneProgress((), (0,) * len(classes))
    if checkpoint is not None and checkpoint.is_file():
        done = resume_finetuning(checkpoint, identity, network, optimizer)
    wrapped, wrapped_optimizer = fabric.setup(network, optimizer)
    training = _Training(fabric, wrapped, wrapped_optimizer, settings, len(classes), network.encoder, seed)
    every_epoch = BatchSampler(len(images), settings.batch_size, settings.epochs, seed)
    first_step = len(done.losses) * every_epoch.steps_per_epoch
    sampler = BatchSampler(len(images), settings.batch_size, settings.epochs, seed, first_step=first_step)
    views = LabelViews(images, _ClassColumns(labels, classes), settings.views)
    batches = iter(draw_batches(views, sampler, settings.num_workers, collate_labels))
    started = time.monotonic()
    for epoch in range(len(done.losses), settings.epochs):
        loss, num_pixels = training.epoch(epoch, batches, sampler.steps_per_epoch)
        _check_labelled(num_pixels, epoch, classes)
        counts = tuple(int(before + now) for before, now in zip(done.num_pixels, num_pixels, strict=True))
        done = FinetuneProgress((*done.losses, loss), counts)
        if checkpoint is not None:
            save_finetuning(checkpoint, identity, network, optimizer, done)
        progress(epoch, loss)
    absent = [label for label, count in zip(classes, done.num_pixels, strict=True) if count == 0]
    notes = (f"classes {absent} have no training pixel; their logits learned only to be low",) if absent else ()
    return FinetuneOutcome(done.losses, stage_scales, time.monotonic() - started, notes)


def build_staged_optimizer(
    network: SegmentationNetwork, settings: FinetuneSettings
) -> tuple[torch.optim.Optimizer, tuple[float, ...]]:
    """Return AdamW with a group for each stage of the encoder and one for the rest, and the scale of each stage's rate.

    Stage s of S (1-based) learns at `learning_rate * encoder_lr_scale * stage_decay ** (S - s)`; stages that do not
    learn have scale 0, and no gradient is computed for them.
    """
    stages = encoder_stages(network)
    num_trained = len(stages) if settings.trained_stages < 0 else min(settings.trained_stages, len(stages))
    network.encoder.requires_grad_(False)
    groups, scales = [], []
    for number, parameters in enumerate(stages, start=1):
        is_trained = number > len(stages) - num_trained and settings.encoder_lr_scale > 0
        scales.append(settings.encoder_lr_scale * settings.stage_decay ** (len(stages) - number) if is_trained else 0.0)
        if is_trained:
            for parameter in parameters:
                parameter.requires_grad_(True)
            groups.append({"params": list(parameters), "lr_scale": scales[-1]})
    inside = {id(parameter) for parameter in network.encoder.parameters()}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in inside]
    groups.append({"params": rest, "lr_scale": 1.0})
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    return optimizer, tuple(scales)


@dataclass(frozen=True)
class _Training:
    """What an epoch needs: network and optimiser as Fabric has set them up."""

    fabric: Fabric
    network: torch.nn.Module
    optimizer: Any
    settings: FinetuneSettings
    num_classes: int
    encoder: torch.nn.Module
    seed: int

    def epoch(self, epoch: int, batches: Iterator[LabelView], num_steps: int) -> tuple[float, NDArray[np.int64]]:
        """Learn from the next `num_steps` batches; returns their mean loss and the labelled pixels of each class."""
        self.network.train()
        freeze_batch_norm(self.encoder)
        total, num_pixels = 0.0, np.zeros(self.num_classes, dtype=np.int64)
        with open_progress() as bar:
            task = bar.add_task(f"fine-tuning, epoch {epoch + 1} of {self.settings.epochs}", total=num_steps)
            for step in range(epoch * num_steps, (epoch + 1) * num_steps):
                view = next(batches)
                total += self._step(step, num_steps, view)
                num_pixels += np.bincount(view.target[view.target != IGNORE].numpy(), minlength=self.num_classes)
                bar.advance(task)
        return total / num_steps, num_pixels

    def _step(self, step: int, steps_per_epoch: int, view: LabelView) -> float:
        set_learning_rate(self.optimizer, self.settings, step, steps_per_epoch)
        torch.manual_seed(int(np.random.default_rng([self.seed, step]).integers(2**62)))  # dropout of a step repeats
        logits = self.network(self.fabric.to_device(view.image).contiguous(memory_format=torch.channels_last))
        loss = labelled_cross_entropy(logits.float(), self.fabric.to_device(view.target).long())
        return descend(self.fabric, self.optimizer, loss, step, self.settings, "fine-tuning", "finetune")


@dataclass(frozen=True)
class _ClassColumns:
    """Reads label maps as the places of their classes in `classes`, `IGNORE` for the others."""

    labels: LabelReader
    classes: tuple[int, ...]

    def __call__(self, ref: ImageRef) -> LabelMap:
        label_map = self.labels(ref)
        low, high = int(label_map.min(initial=0)), int(label_map.max(initial=0))
        if low < 0 or high > IGNORE:
            raise InputError(
                f"image {ref.stem!r} has label {low if low < 0 else high}; labels are 0-{IGNORE}, with {IGNORE} for "
                "pixels that are ignored: correct the label map"
            )
        column_of = np.full(IGNORE + 1, IGNORE, dtype=np.int64)
        column_of[list(self.classes)] = np.arange(len(self.classes))
        return column_of[label_map]


def _check_labelled(num_pixels: NDArray[np.int64], epoch: int, classes: tuple[int, ...]) -> None:
    if not num_pixels.any():
        raise InputError(
            f"no pixel of epoch {epoch + 1} is labelled with one of the classes {list(classes)}; check the labels and "
            "the list of classes"
        )
