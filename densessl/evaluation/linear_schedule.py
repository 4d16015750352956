"""The linear probe of the published schedule: stochastic gradient descent on batches of frozen features."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from densessl.errors import InputError
from densessl.evaluation.labelled_features import Classes, FeatureSource, LabelSource, check_finite
from densessl.evaluation.labelled_protocols import LinearScheduleSettings
from densessl.evaluation.linear_probe import LinearProbe


class FeatureBatch(NamedTuple):
    """features: float (batch, dim, h, w). targets: integer (batch, height, width), class indices and `IGNORE`.

    stems: of the images, for errors; it may be empty.
    """

    features: torch.Tensor
    targets: torch.Tensor
    stems: tuple[str, ...] = ()


EpochBatches = Callable[[int], Iterable[FeatureBatch]]
"""Yields the batches of an epoch (0-based): `AugmentedBatches`, fresh forward passes, or `cached_batches`."""


@dataclass(frozen=True)
class ScheduleFit:
    """A probe, the mean loss of each epoch in nats, the number of steps, and what a reader must know, in words."""

    probe: LinearProbe
    losses: tuple[float, ...]
    num_steps: int
    notes: tuple[str, ...]


def fit_scheduled_probe(
    batches: EpochBatches,
    classes: Classes,
    settings: LinearScheduleSettings,
    seed: int,
    device: torch.device | None = None,
    progress: Callable[[int, float], None] = lambda epoch, loss: None,
) -> ScheduleFit:
    """Train a 1x1 convolution on features that nobody changes, and return its weights after the last epoch.

    Logits are upsampled bilinearly to the targets; the loss is the mean cross-entropy over the pixels that have a
    class, as published for MaskContrast (`LinearScheduleSettings`). A batch without such a pixel makes no step.

    Args:
        batches: called once for each epoch with its number.
        classes: what is learned; a class that no batch holds is left out of the probe.
        settings: rates, epochs and first weights; `batch_size` is for the caller.
        seed: of the first weights.
        device: where the probe is trained; None for the CPU.
        progress: takes each epoch (0-based) and its mean loss.

    Raises:
        InputError: features or a loss that are not finite, a label outside the range, no labelled pixel in an epoch.
    """
    device = device or torch.device("cpu")
    training: _Training | None = None
    num_pixels = np.zeros(len(classes), dtype=np.int64)
    losses, num_steps = [], 0
    for epoch in range(settings.epochs):
        of_epoch = []
        for batch in batches(epoch):
            _check_batch(batch)
            targets = _target_columns(batch, classes)
            counts = np.bincount(targets[targets >= 0], minlength=len(classes))
            if not counts.any():
                continue
            num_pixels += counts
            if training is None:
                training = _Training(batch.features.shape[1], len(classes), settings, seed, device)
            of_epoch.append(training.step(epoch, batch.features, torch.from_numpy(targets)))
        if not of_epoch:
            raise InputError(
                f"no pixel of epoch {epoch + 1} is labelled with one of the classes {list(classes.labels)}; check the "
                "labels and the list of classes"
            )
        num_steps += len(of_epoch)
        losses.append(float(np.mean(of_epoch)))
        progress(epoch, losses[-1])
    if training is None:  # settings ask for an epoch at least
        raise InputError(f"linear.epochs is {settings.epochs}; it must be at least 1")
    return _fitted(training, classes, num_pixels, tuple(losses), num_steps)


def learning_rate_at(settings: LinearScheduleSettings, epoch: int) -> float:
    """Return the rate of an epoch (0-based): lowered once `decay_after` is past, as published."""
    return settings.learning_rate * (settings.decay if epoch > settings.decay_after else 1.0)


def cached_batches(features: FeatureSource, labels: LabelSource, batch_size: int, seed: int) -> EpochBatches:
    """Return the batches of cached features, in the order of `epoch_batches`.

    Label maps, and grids, must have one size for all images, such as that of the encoder's input.
    """

    def of_epoch(epoch: int) -> Iterator[FeatureBatch]:
        for chosen in epoch_batches(len(features), batch_size, seed, epoch):
            stems = tuple(features.stems[index] for index in chosen)
            maps = [features.pixels(index) for index in chosen]
            targets = [labels(index) for index in chosen]
            for what, arrays in (("features", maps), ("label maps", targets)):
                _check_same_shape(what, arrays, stems)
            yield FeatureBatch(torch.from_numpy(np.stack(maps)), torch.from_numpy(np.stack(targets)), stems)

    return of_epoch


def epoch_batches(num_images: int, batch_size: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """Yield which images go into each batch of an epoch (0-based), in an order drawn from (seed, epoch).

    The last incomplete batch is dropped; where there are fewer images than `batch_size`, an epoch is one batch of them
    all.
    """
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(num_images).tolist()
    for step in range(max(1, num_images // batch_size)):
        yield order[step * batch_size : (step + 1) * batch_size]


class _Training:
    """The probe in training, with its optimiser."""

    def __init__(
        self, dim: int, num_classes: int, settings: LinearScheduleSettings, seed: int, device: torch.device
    ) -> None:
        first = torch.randn(num_classes, dim, 1, 1, generator=torch.Generator().manual_seed(seed))
        self.weight = (settings.initial_deviation * first).to(device).requires_grad_()
        self.bias = torch.zeros(num_classes, device=device, requires_grad=True)
        self.settings = settings
        self.optimizer = torch.optim.SGD(
            [self.weight, self.bias],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )

    def step(self, epoch: int, features: torch.Tensor, targets: torch.Tensor) -> float:
        """Change the weights by one batch and return its loss; targets are columns, -1 where there is no class."""
        inputs = features.detach().to(self.weight.device, torch.float32)
        if inputs.shape[1] != self.weight.shape[1]:
            raise InputError(
                f"features of a batch have {inputs.shape[1]} dimensions, those before {self.weight.shape[1]}; use one "
                "encoder for all images"
            )
        self.optimizer.param_groups[0]["lr"] = learning_rate_at(self.settings, epoch)
        logits = nn.functional.conv2d(inputs, self.weight, self.bias)
        value, gradient = upsampled_cross_entropy(logits, targets.to(self.weight.device))
        if not np.isfinite(value):
            raise InputError(
                f"the loss of the linear probe became {value} in epoch {epoch + 1}; lower linear.learning_rate "
                f"(now {self.settings.learning_rate})"
            )
        self.optimizer.zero_grad()
        logits.backward(gradient)  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value


def upsampled_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Return the mean cross-entropy of logits at the targets' size, and its gradient by the logits as they are given.

    On a CPU image after image is upsampled, so that what an image takes stays in the cache.

    Args:
        logits: (batch, classes, h, w), upsampled bilinearly.
        targets: int64 (batch, height, width), -1 where there is no class; not everywhere.

    Returns:
        The loss in nats, over the pixels that have a class, and its gradient, of the shape of `logits`.
    """
    gradients: list[torch.Tensor] = []
    num_labelled = (targets >= 0).sum()
    loss = torch.zeros((), device=logits.device)
    at_once = 1 if logits.device.type == "cpu" else len(logits)
    for first in range(0, len(logits), at_once):
        wanted = targets[first : first + at_once]
        given = logits[first : first + at_once].detach().requires_grad_()
        upsampled = nn.functional.interpolate(given, wanted.shape[1:], mode="bilinear", align_corners=False)
        part = nn.functional.cross_entropy(upsampled, wanted, ignore_index=-1, reduction="sum") / num_labelled
        gradients += torch.autograd.grad(part, given)
        loss += part.detach()
    return float(loss), torch.cat(gradients)


def _fitted(
    training: _Training, classes: Classes, num_pixels: NDArray[np.int64], losses: tuple[float, ...], num_steps: int
) -> ScheduleFit:
    present = np.flatnonzero(num_pixels)
    absent = [label for label, count in zip(classes.labels, num_pixels, strict=True) if count == 0]
    notes = (f"classes {absent} have no training pixel and are never predicted",) if absent else ()
    weight = training.weight.detach().flatten(1).cpu().numpy()[present]
    bias = training.bias.detach().cpu().numpy()[present]
    return ScheduleFit(LinearProbe(weight, bias, classes.subset(present)), losses, num_steps, notes)


def _check_batch(batch: FeatureBatch) -> None:
    if batch.features.ndim != 4 or batch.targets.ndim != 3 or len(batch.features) != len(batch.targets):
        raise InputError(
            f"a batch has features {tuple(batch.features.shape)} and targets {tuple(batch.targets.shape)}; they are "
            "(batch, dim, h, w) and (batch, height, width)"
        )
    if not bool(torch.isfinite(batch.features).all()):
        for number, features in enumerate(batch.features):
            stem = batch.stems[number] if batch.stems else f"number {number} of a batch"
            check_finite(features.detach().float().cpu().numpy(), stem)


def _target_columns(batch: FeatureBatch, classes: Classes) -> NDArray[np.int64]:
    stems = batch.stems or tuple(f"number {number} of a batch" for number in range(len(batch.targets)))
    maps = batch.targets.cpu().numpy().astype(np.int64)
    return np.stack([classes.columns(labels, stem) for labels, stem in zip(maps, stems, strict=True)])


def _check_same_shape(what: str, arrays: list[NDArray], stems: tuple[str, ...]) -> None:
    for array, stem in zip(arrays, stems, strict=True):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{what} of images {stems[0]!r} and {stem!r} have shapes {arrays[0].shape} and {array.shape}; a batch "
                "needs one size, such as that of the encoder's input"
            )
