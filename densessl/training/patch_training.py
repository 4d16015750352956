"""Training of a network of patches: on border and middle of images, or on soft maps of theirs."""

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import nn

from densessl.data.patch_views import PatchViews
from densessl.data.soft_targets import SoftMaps, TargetView, collate_targets
from densessl.errors import InputError, check_at_least
from densessl.models.patch_network import FIELD_PX, SIZE_PX, STRIDE_PX, PatchNetwork
from densessl.structures import ImageRef
from densessl.training.batches import draw_batches
from densessl.training.network_fitting import fit_network, say_if_short
from densessl.training.sampler import BatchSampler

MARGIN_PX = FIELD_PX // 2


@dataclass(frozen=True)
class PatchTrainingSettings:
    """How the network of method `learned_patches` is trained.

    Args:
        rounds: the first network learns which patches lie near the border of photographs; each further one, from
            random weights again, which are foreground in the maps that the one before made.
        epochs: passes over the images, in each round.
        batch_size: images per step.
        learning_rate: rises over the first tenth of the steps, at most 20, and falls to 0 along a half cosine.
        weight_decay: decoupled, of AdamW.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
    """

    rounds: int = 2
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    num_workers: int = -1

    def __post_init__(self) -> None:
        at_least = {"rounds": 1, "epochs": 1, "batch_size": 1, "weight_decay": 0, "num_workers": -1}
        check_at_least("patch_training", self, at_least)
        if not self.learning_rate > 0:
            raise InputError(f"patch_training.learning_rate is {self.learning_rate}; it must be positive")

    @property
    def encoder_lr_scale(self) -> float:
        """All weights learn at the same rate."""
        return 1.0


def train_patch_network(
    fabric: Fabric,
    network: PatchNetwork,
    images: tuple[ImageRef, ...],
    maps: SoftMaps | None,
    settings: PatchTrainingSettings,
    seed: int,
) -> float:
    """Train a network, in place; returns the mean loss of the last epoch (ln 2 = 0.693 is chance).

    A training of fewer than 100 steps is carried out, and a line on standard error says that it is short.

    Args:
        fabric: device and precision, one process.
        network: with its initial weights.
        images: to learn from; one that cannot be read teaches nothing.
        maps: soft maps of all of them; without maps the network learns border and middle.
        settings: of the steps.
        seed: of the order of images and of the mirror images.

    Raises:
        InputError: nothing to learn from, such as images that cannot be read or are too thin for a patch, or a loss
            that is not a number.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    group = {"params": list(network.parameters()), "lr_scale": 1.0}
    wrapped, optimizer = fabric.setup(
        network, torch.optim.AdamW([group], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    )
    sampler = BatchSampler(len(images), settings.batch_size, settings.epochs, seed)
    say_if_short(sampler, "learned patches", "patch_training")
    batches = draw_batches(PatchViews(images, SIZE_PX, MARGIN_PX, maps), sampler, settings.num_workers, collate_targets)
    wrapped.train()
    num_cells = torch.zeros(2)

    def loss_of(view: TargetView) -> torch.Tensor:
        logits = wrapped(fabric.to_device(view.image).contiguous(memory_format=torch.channels_last))
        targets = at_cells(view.target, logits)
        num_cells.add_(torch.stack([(targets < 0.5).sum(), (targets > 0.5).sum()]))
        return balanced_loss(logits.float(), fabric.to_device(targets))

    loss = fit_network(fabric, optimizer, batches, sampler, settings, loss_of, "learned patches", "patch_training").loss
    if not num_cells.all():
        if maps is not None:
            raise InputError(
                f"the maps of {len(images)} images are foreground nowhere, or background nowhere, where a whole patch "
                f"fits ({FIELD_PX} pixels where the long side has {SIZE_PX}); take --patch_training.rounds 1, or fused"
            )
        raise InputError(
            f"{len(images)} images show learned_patches no patch of one kind or of both: none can be read, or all are "
            f"too thin (a patch has {FIELD_PX} pixels where the long side has {SIZE_PX}); give others, or take fused"
        )
    return loss


def balanced_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return half the mean of `log(1 + exp(x))` over the background and half that of `log(1 + exp(-x))` over the rest.

    Background is where the target is below 0.5, and each cell counts by how sure its target is, `|2 t - 1|`. A half
    without cells counts as 0.

    Args:
        logits: x, any shape. targets: t, the same shape, in [0, 1].
    """
    weights = (2 * targets - 1).abs()
    halves = [
        (nn.functional.softplus(sign * logits) * weights * side).sum() / (weights * side).sum().clamp_min(1e-6)
        for side, sign in ((targets < 0.5, 1), (targets > 0.5, -1))
    ]
    return (halves[0] + halves[1]) / 2


def at_cells(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the targets (batch, height, width) at the centres of a network's cells, (batch, rows, columns)."""
    rows, columns = logits.shape[-2:]
    return targets[:, MARGIN_PX::STRIDE_PX, MARGIN_PX::STRIDE_PX][:, :rows, :columns]
