"""One round of self-training: a saliency network learns the soft maps that were made without labels."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from densessl.data.soft_targets import SoftMaps, TargetView, TargetViews, collate_targets
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError, check_at_least
from densessl.models.precision import choose_memory_format
from densessl.models.saliency_network import SIZE_RANGE_PX, SaliencyNetwork
from densessl.structures import ImageRef
from densessl.training.batches import draw_batches
from densessl.training.network_fitting import build_optimizer, fit_network, freeze_batch_norm, say_if_short
from densessl.training.sampler import BatchSampler


@dataclass(frozen=True)
class SelfTrainingSettings:
    """How a saliency network is trained on the maps of other estimators, and then on its own.

    The two-step idea of DeepUSPS (Nguyen et al., NeurIPS 2019, arXiv:1909.13055): a network trained on noisy maps of
    many images keeps what they have in common; its maps, averaged with the earlier ones, train the next network.

    Args:
        teachers: the saliency methods whose maps, averaged, are the first targets.
        rounds: how often a network is trained and its maps become the next targets.
        epochs: passes over the images that are kept, in each round.
        encoder: timm name of the network's encoder, a convolutional one.
        weights: file with the encoder's initial weights; random without one. With weights the encoder's batch norm
            keeps their statistics.
        pretrained: let timm download its published weights for the encoder.
        kept_share: share of the images, in (0, 1], that train the network of a round: those whose targets tell the two
            sides apart best (`densessl.data.soft_targets.decidedness`). Their maps are the better ones, as the samples
            of small loss are in co-teaching (Han et al., NeurIPS 2018, arXiv:1804.06872).
        size_px: height and width of the training views, 32 to 4096.
        min_scale: smallest share of an image's area that a view shows, in (0, 1]. Small shares keep the network from
            learning the maps by heart, faults included.
        batch_size: images per step.
        learning_rate: of the decoder; in each round it rises over the first tenth of the steps, at most 20, and falls
            to 0 along a half cosine.
        encoder_lr_scale: the encoder learns at learning_rate times this; 0 leaves its weights as they are, which for
            pretrained ones is faster and keeps the network from learning the maps' faults.
        weight_decay: decoupled, of AdamW.
        averaging: share of the earlier targets that is kept when a round's maps are averaged in, in [0, 1).
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
    """

    teachers: tuple[str, ...] = ("fused",)
    rounds: int = 2
    epochs: int = 6
    encoder: str = "resnet18"
    weights: Path | None = None
    pretrained: bool = False
    kept_share: float = 1.0
    size_px: int = 160
    min_scale: float = 0.3
    batch_size: int = 32
    learning_rate: float = 1e-3
    encoder_lr_scale: float = 1.0
    weight_decay: float = 1e-2
    averaging: float = 0.5
    num_workers: int = -1

    def __post_init__(self) -> None:
        if not self.teachers:
            raise InputError("self_training.teachers is empty; name at least one saliency method, such as fused")
        if "self_trained" in self.teachers:
            raise InputError("self_training.teachers names self_trained; a network learns from others, such as fused")
        if len(set(self.teachers)) < len(self.teachers):
            raise InputError(f"self_training.teachers {list(self.teachers)} names one twice; name each once")
        if self.weights is not None and self.pretrained:
            raise InputError(
                f"self_training is given both weights {self.weights} and pretrained true; choose one of the two"
            )
        at_least = {"rounds": 1, "epochs": 1, "batch_size": 1, "encoder_lr_scale": 0, "weight_decay": 0}
        check_at_least("self_training", self, {**at_least, "num_workers": -1})
        smallest, largest = SIZE_RANGE_PX
        if not smallest <= self.size_px <= largest:
            raise InputError(f"self_training.size_px is {self.size_px}; a view has {smallest} to {largest} pixels")
        if not 0 < self.min_scale <= 1:
            raise InputError(f"self_training.min_scale is {self.min_scale}; it is a share of the image in (0, 1]")
        if not 0 < self.kept_share <= 1:
            raise InputError(f"self_training.kept_share is {self.kept_share}; it is a share of the images in (0, 1]")
        if not self.learning_rate > 0:
            raise InputError(f"self_training.learning_rate is {self.learning_rate}; it must be positive")
        if not 0 <= self.averaging < 1:
            raise InputError(f"self_training.averaging is {self.averaging}; it is a share in [0, 1)")

    @property
    def views(self) -> ViewSettings:
        """How the training views are drawn."""
        return ViewSettings(size_px=self.size_px, min_scale=self.min_scale, grayscale=0.1)

    @property
    def view_share(self) -> float:
        """Mean share of an image's area that a training view shows."""
        return (self.views.min_scale + self.views.max_scale) / 2


def train_saliency_network(
    fabric: Fabric,
    network: SaliencyNetwork,
    images: tuple[ImageRef, ...],
    targets: SoftMaps,
    settings: SelfTrainingSettings,
    seed: int,
) -> float:
    """Train a network on soft targets, in place; returns the mean loss of the last epoch.

    A round of fewer than 100 steps is carried out, and a line on standard error says that it is short.

    Args:
        fabric: device and precision, one process.
        network: with its initial weights.
        images: the images that have a target.
        targets: their soft maps.
        settings: `rounds` and `averaging` are not used here.
        seed: of the order of images and the views.

    Raises:
        InputError: no image, or a loss that is not a number.
    """
    if not images:
        reasons = " and ".join(str(folder.parent / "rejected.json") for folder in targets.folders)
        raise InputError(
            f"none of the images has a soft map to learn from: the teachers rejected all of them ({reasons}); give "
            "other images, or a smaller --min_area or --threshold"
        )
    network.to(memory_format=choose_memory_format("auto", network))  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(network, build_optimizer(network, network.unet.encoder, settings))
    is_frozen_norm = settings.weights is not None or settings.pretrained
    sampler = BatchSampler(len(images), settings.batch_size, settings.epochs, seed)
    batches = draw_batches(TargetViews(images, targets, settings.views), sampler, settings.num_workers, collate_targets)
    say_if_short(sampler, "self-training", "self_training")
    torch.manual_seed(seed)
    wrapped.train()
    if is_frozen_norm:
        freeze_batch_norm(network.unet.encoder)

    def loss_of(view: TargetView) -> torch.Tensor:
        logits = wrapped(fabric.to_device(view.image).contiguous(memory_format=torch.channels_last))
        return confidence_weighted_loss(logits.float(), fabric.to_device(view.target))

    return fit_network(fabric, optimizer, batches, sampler, settings, loss_of, "self-training", "self_training").loss


def confidence_weighted_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy against `targets > 0.5`, each pixel weighted by how sure its target is.

    `sum_i |2 t_i - 1| CE(x_i, [t_i > 0.5]) / sum_i |2 t_i - 1|`; zero where no target is sure of anything.

    Args:
        logits: (batch, height, width). targets: the same shape, in [0, 1].
    """
    weights = (2 * targets - 1).abs()
    losses = nn.functional.binary_cross_entropy_with_logits(logits, (targets > 0.5).float(), reduction="none")
    return (weights * losses).sum() / weights.sum().clamp_min(1e-6)
