"""One round of self-training on clusters: a segmentation network learns pseudo-labels that were made without labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from densessl.data.label_maps import read_label_map
from densessl.data.label_targets import LabelFolder, LabelView, LabelViews, collate_labels
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError, check_at_least
from densessl.models.precision import choose_memory_format
from densessl.models.saliency_network import SIZE_RANGE_PX
from densessl.models.segmentation_network import Decoder, SegmentationNetwork
from densessl.structures import IGNORE, ImageRef
from densessl.training.batches import draw_batches
from densessl.training.network_fitting import FitOutcome, build_optimizer, fit_network, freeze_batch_norm
from densessl.training.sampler import BatchSampler


@dataclass(frozen=True)
class SelfLabellingSettings:
    """How a segmentation network is trained on clusters of masks, and then on what it says itself.

    Cluster the masks, train on the confident ones, predict, repeat: COMUS (Zadaianchuk et al., ICLR 2023,
    arXiv:2207.05027) and MaskDistill (Van Gansbeke et al., arXiv:2206.06363).

    Args:
        rounds: how often a network is trained, each time anew from the encoder of the run, on the pseudo-labels of the
            clusters (round 1) or of the network before.
        epochs: passes over the images that are kept, in each round.
        kept_share: share of the masks of each cluster, and in later rounds of the images of each class, in (0, 1], that
            train the network: the most confident ones.
        later_labels: what later rounds learn. predicted: the network's label maps, background included, where the
            probability is above 0.5 + unsure. masks: the masks of the first round, each with the foreground class that
            the network finds in it.
        unsure: soft values within this of 0.5 are not learned, in [0, 0.5).
        band_px: where masks have no soft map, pixels on each side of an outline that are not learned.
        decoder: unet (joins the levels of a convolutional encoder), deeplabv3 (any encoder, coarser) or linear (a 1x1
            convolution on any encoder).
        size_px: height and width of the training views, 32 to 4096.
        min_scale: smallest share of an image's area that a view shows, in (0, 1].
        jitter: probability of changed colours.
        batch_size: images per step.
        learning_rate: of the decoder, by AdamW; in each round it rises over the first tenth of the steps, at most 20,
            and falls to 0 along a half cosine.
        encoder_lr_scale: the encoder learns at learning_rate times this; 0 leaves it as the run left it, which takes
            about 0.6 of the time. Its batch norm keeps the run's statistics in any case.
        weight_decay: decoupled.
        balance: none (every pixel counts alike) or classes (every class of the pseudo-labels counts alike, the
            background included).
        precision: auto (bf16 where the processor is fast at it, else fp32), fp32 or bf16.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
    """

    rounds: int = 2
    epochs: int = 10
    kept_share: float = 0.5
    later_labels: Literal["predicted", "masks"] = "predicted"
    unsure: float = 0.1
    band_px: int = 3
    decoder: Decoder = "unet"
    size_px: int = 224
    min_scale: float = 0.3
    jitter: float = 0.8
    batch_size: int = 16
    learning_rate: float = 1e-3
    encoder_lr_scale: float = 0.1
    weight_decay: float = 1e-2
    balance: Literal["none", "classes"] = "none"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    num_workers: int = -1

    def __post_init__(self) -> None:
        at_least = {"rounds": 1, "epochs": 1, "batch_size": 1, "encoder_lr_scale": 0, "weight_decay": 0, "band_px": 0}
        check_at_least("self_labelling", self, {**at_least, "num_workers": -1})
        smallest, largest = SIZE_RANGE_PX
        if not smallest <= self.size_px <= largest:
            raise InputError(f"self_labelling.size_px is {self.size_px}; a view has {smallest} to {largest} pixels")
        for name in ("min_scale", "kept_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"self_labelling.{name} is {getattr(self, name)}; it is a share in (0, 1]")
        if not 0 <= self.unsure < 0.5:
            raise InputError(f"self_labelling.unsure is {self.unsure}; it is a distance from 0.5, in [0, 0.5)")
        if not 0 <= self.jitter <= 1:
            raise InputError(f"self_labelling.jitter is {self.jitter}; a probability lies in [0, 1]")
        if not self.learning_rate > 0:
            raise InputError(f"self_labelling.learning_rate is {self.learning_rate}; it must be positive")

    @property
    def views(self) -> ViewSettings:
        """How the training views are drawn."""
        return ViewSettings(size_px=self.size_px, min_scale=self.min_scale, jitter=self.jitter, grayscale=0.1)

    @property
    def view_share(self) -> float:
        """Mean share of an image's area that a training view shows."""
        return (self.views.min_scale + self.views.max_scale) / 2


def train_segmentation_network(
    fabric: Fabric,
    network: SegmentationNetwork,
    images: tuple[ImageRef, ...],
    pseudo_labels: Path,
    num_classes: int,
    settings: SelfLabellingSettings,
    seed: int,
    name: str,
) -> FitOutcome:
    """Train a network on pseudo-labels, in place, with the cross-entropy over the pixels that have one.

    Args:
        fabric: device and precision, one process.
        network: with its initial weights.
        images: the images that are kept.
        pseudo_labels: folder with the label map of each.
        num_classes: background included.
        settings: rounds and kept_share are not used here.
        seed: of the order of images, the views and dropout.
        name: of the round, for progress.

    Raises:
        InputError: an image without a label map, or a loss that is not a number.
    """
    weights = None
    if settings.balance == "classes":
        weights = fabric.to_device(class_weights(count_pixels(images, pseudo_labels, num_classes)))
    network.to(memory_format=choose_memory_format("auto", network))  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(network, build_optimizer(network, network.encoder, settings))
    sampler = BatchSampler(len(images), settings.batch_size, settings.epochs, seed)
    views = LabelViews(images, LabelFolder(pseudo_labels), settings.views)
    torch.manual_seed(seed)
    wrapped.train()
    freeze_batch_norm(network.encoder)

    def loss_of(view: LabelView) -> torch.Tensor:
        logits = wrapped(fabric.to_device(view.image).contiguous(memory_format=torch.channels_last))
        return labelled_cross_entropy(logits.float(), fabric.to_device(view.target).long(), weights)

    batches = draw_batches(views, sampler, settings.num_workers, collate_labels)
    return fit_network(fabric, optimizer, batches, sampler, settings, loss_of, name, "self_labelling")


def labelled_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return `sum_i w_{t_i} CE(x_i, t_i) / sum_i w_{t_i}` over the pixels whose target is a class; 0 where none is.

    Args:
        logits: (batch, num_classes, height, width), with gradient.
        targets: int64 (batch, height, width), classes and `IGNORE`.
        weights: (num_classes,), or None for 1.
    """
    losses = nn.functional.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="sum")
    has_class = targets != IGNORE
    counted = has_class.sum().to(losses) if weights is None else weights[targets[has_class]].sum().to(losses)
    return losses / counted.clamp_min(torch.finfo(losses.dtype).tiny)


def class_weights(num_pixels: NDArray[np.int64]) -> torch.Tensor:
    """Return the weight of a pixel of each class that lets all classes count alike: `N / (C n_c)`, float32 (C,).

    `n_c` are the pixels of class c, N their sum and C the number of classes that have any; the others weigh 0.
    """
    has_pixels = num_pixels > 0
    share = num_pixels / max(1, int(num_pixels.sum()))
    weights = np.divide(1.0, share * has_pixels.sum(), out=np.zeros(len(num_pixels)), where=has_pixels)
    return torch.from_numpy(weights.astype(np.float32))


def count_pixels(images: tuple[ImageRef, ...], pseudo_labels: Path, num_classes: int) -> NDArray[np.int64]:
    """Return how many pixels the pseudo-labels of these images give each class, int64 (num_classes,)."""
    total = np.zeros(num_classes, dtype=np.int64)
    for ref in images:
        labels = read_label_map(pseudo_labels / f"{ref.stem}.png")
        total += np.bincount(labels[labels != IGNORE], minlength=num_classes)[:num_classes]
    return total
