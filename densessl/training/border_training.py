"""Training of a network that tells patches near the border of photographs from those in the middle."""

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

from densessl.data.border_views import BORDER, MIDDLE, BorderView, BorderViews
from densessl.errors import InputError, check_at_least
from densessl.models.border_network import FIELD_PX, SIZE_PX, STRIDE_PX, BorderNetwork
from densessl.structures import ImageRef
from densessl.training.batches import draw_batches
from densessl.training.network_fitting import fit_network
from densessl.training.sampler import BatchSampler

MARGIN_PX = FIELD_PX // 2
FEW_STEPS = 100
"""A training of fewer steps is said to be short."""


@dataclass(frozen=True)
class BorderTrainingSettings:
    """How the network of method `learned_border` is trained.

    Args:
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: rises over the first tenth of the steps, at most 20, and falls to 0 along a half cosine.
        weight_decay: decoupled, of AdamW.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
    """

    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    num_workers: int = -1

    def __post_init__(self) -> None:
        check_at_least("border_training", self, {"epochs": 1, "batch_size": 1, "weight_decay": 0, "num_workers": -1})
        if not self.learning_rate > 0:
            raise InputError(f"border_training.learning_rate is {self.learning_rate}; it must be positive")

    @property
    def encoder_lr_scale(self) -> float:
        """All weights learn at the same rate."""
        return 1.0


def train_border_network(
    fabric: Fabric,
    network: BorderNetwork,
    images: tuple[ImageRef, ...],
    settings: BorderTrainingSettings,
    seed: int,
) -> float:
    """Train a network on images alone, in place; returns the mean loss of the last epoch (ln 2 = 0.69 is chance).

    A training of fewer than 100 steps is carried out, and a line on standard error says that it is short.

    Args:
        fabric: device and precision, one process.
        network: with its initial weights.
        images: to learn from; one that cannot be read teaches nothing.
        settings: of the steps.
        seed: of the order of images and of the mirror images.

    Raises:
        InputError: a loss that is not a number.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    group = {"params": list(network.parameters()), "lr_scale": 1.0}
    wrapped, optimizer = fabric.setup(
        network, torch.optim.AdamW([group], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    )
    sampler = BatchSampler(len(images), settings.batch_size, settings.epochs, seed)
    if len(sampler) < FEW_STEPS:
        enough = -(-FEW_STEPS // sampler.steps_per_epoch)
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
            f"learned border: {len(sampler)} steps are few for a network to learn from; --border_training.epochs "
            f"{enough} (now {settings.epochs}) makes at least {FEW_STEPS}"
        )
    views = BorderViews(images, SIZE_PX, MARGIN_PX)
    batches = draw_batches(views, sampler, settings.num_workers, _collate)
    wrapped.train()

    def loss_of(view: BorderView) -> torch.Tensor:
        logits = wrapped(fabric.to_device(view.image).contiguous(memory_format=torch.channels_last))
        return balanced_loss(logits.float(), at_cells(fabric.to_device(view.target), logits))

    return fit_network(fabric, optimizer, batches, sampler, settings, loss_of, "learned border", "border_training").loss


def balanced_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return half the mean of `log(1 + exp(x))` over the border and half that of `log(1 + exp(-x))` over the middle.

    Either is zero where there is none of it.

    Args:
        logits: x, any shape. targets: the same shape, `BORDER`, `MIDDLE` or `NEITHER` (densessl.data.border_views).
    """
    halves = [
        (nn.functional.softplus(sign * logits) * (targets == place)).sum() / (targets == place).sum().clamp_min(1)
        for place, sign in ((BORDER, 1), (MIDDLE, -1))
    ]
    return (halves[0] + halves[1]) / 2


def at_cells(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the targets (batch, height, width) at the centres of a network's cells, (batch, rows, columns)."""
    rows, columns = logits.shape[-2:]
    return targets[:, MARGIN_PX::STRIDE_PX, MARGIN_PX::STRIDE_PX][:, :rows, :columns]


def _collate(views: list[BorderView]) -> BorderView:
    return BorderView(torch.stack([view.image for view in views]), torch.stack([view.target for view in views]))
