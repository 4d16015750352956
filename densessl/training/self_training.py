"""One round of self-training: a saliency network learns the soft maps that were made without labels."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from densessl.data.soft_targets import SoftMaps, TargetView, TargetViews, collate_targets
from densessl.data.source_cache import SourceCache
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError, check_at_least
from densessl.models.precision import choose_memory_format
from densessl.models.saliency_network import (
    DECODERS,
    MAX_SCALES,
    SCALE_RANGE,
    SIZE_RANGE_PX,
    SaliencyNetwork,
    are_scales,
)
from densessl.structures import ImageRef
from densessl.training.batches import draw_batches
from densessl.training.network_fitting import build_optimizer, fit_network, freeze_batch_norm, say_if_short
from densessl.training.sampler import BatchSampler

_UNSURE_STEPS = 100
"""After n steps the weights' average has momentum n / (n + this) at most, so that it soon forgets the first ones."""


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
        decoder: unet, whose logits are those of pixels, or fpn, whose logits are interpolated from a quarter of the
            size, for a fraction of the cost.
        weights: file with the encoder's initial weights; random without one. With weights the encoder's batch norm
            keeps their statistics.
        pretrained: let timm download its published weights for the encoder.
        warm_start: each round goes on with the network of the round before, instead of beginning with the initial
            weights. What is random at first needs many steps to learn anything; so all rounds together are one long
            training whose targets become better.
        kept_share: share of the images, in (0, 1], that train the network of a round: those whose targets tell the two
            sides apart best (`densessl.data.soft_targets.decidedness`). Their maps are the better ones, as the samples
            of small loss are in co-teaching (Han et al., NeurIPS 2018, arXiv:1804.06872).
        kept_from: the first round in which kept_share holds; the rounds before learn from all images. A network that
            begins with random weights needs them all at first.
        size_px: height and width of the training views, 32 to 4096.
        min_scale: smallest share of an image's area that a view shows, in (0, 1]. Small shares keep the network from
            learning the maps by heart, faults included.
        magnification: linear, 1 to 4, of the images that a trained network sees, beyond the scale of its training
            views. Random crops show objects larger than whole images do (Touvron et al., NeurIPS 2019,
            arXiv:1906.06423), and a network trained on small views gains from it.
        scales: linear, each 0.25 to 4, at which a trained network sees an image, relative to the size that
            magnification gives; the logits are averaged. Each costs a pass through the network.
        refine_until: the last round whose network's maps are refined, as those of the teachers are, before they become
            targets; none of them with 0, all with null. The first networks gain from it, and those that have become
            better than the refinement lose by it.
        jitter: probability of colour jitter.
        jitter_strength: brightness, contrast and saturation change by up to this factor, hue by a quarter of it.
            Strong changes keep the network from computing its teacher's contrasts again.
        grayscale: probability of dropping colour.
        cutmix: probability that the views of a batch each get a rectangle of another view, with its target (CutMix, Yun
            et al., ICCV 2019, arXiv:1905.04899; for segmentation French et al., BMVC 2020, arXiv:1906.01916).
        reduce_images: read images that are larger than views need at reduced size, and keep them for the other epochs,
            in a file in the output folder that is removed in the end; at most `cache_gb` of them.
        cache_gb: largest size of that file, in units of 10^9 bytes; further images are read in each epoch.
        batch_size: images per step.
        learning_rate: of the decoder; in each round it rises over the first tenth of the steps, at most 20, and falls
            to 0 along a half cosine.
        encoder_lr_scale: the encoder learns at learning_rate times this; 0 leaves its weights as they are, which for
            pretrained ones is faster and keeps the network from learning the maps' faults.
        weight_decay: decoupled, of AdamW.
        weight_averaging: momentum of the moving average of the network's weights over the steps (mean teacher,
            Tarvainen and Valpola, NeurIPS 2017, arXiv:1703.01780), in [0, 1), smaller in the first steps; the average
            is what a round leaves. 0 leaves the last weights.
        averaging: share of the earlier targets that is kept when a round's maps are averaged in, in [0, 1).
        teacher_share: share of the teachers' maps in the targets of every round, in [0, 1]; the rest is their moving
            average with the networks' maps. A network cannot compute what its teachers see in one image alone, such as
            contrasts, so they go on to correct it.
        num_workers: loader processes; -1 chooses by the number of cores, 0 loads in the training process.
    """

    teachers: tuple[str, ...] = ("fused",)
    rounds: int = 2
    epochs: int = 6
    encoder: str = "resnet18"
    weights: Path | None = None
    pretrained: bool = False
    decoder: str = "unet"
    warm_start: bool = False
    kept_share: float = 1.0
    kept_from: int = 1
    size_px: int = 160
    min_scale: float = 0.3
    magnification: float = 1.0
    scales: tuple[float, ...] = (1.0,)
    refine_until: int | None = None
    jitter: float = 0.8
    jitter_strength: float = 0.4
    grayscale: float = 0.1
    cutmix: float = 0.0
    reduce_images: bool = False
    cache_gb: float = 4.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    encoder_lr_scale: float = 1.0
    weight_decay: float = 1e-2
    weight_averaging: float = 0.0
    averaging: float = 0.5
    teacher_share: float = 0.0
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
        if self.decoder not in DECODERS:
            raise InputError(f"self_training.decoder is {self.decoder!r}; choose {' or '.join(DECODERS)}")
        at_least = {"rounds": 1, "epochs": 1, "kept_from": 1, "batch_size": 1, "encoder_lr_scale": 0, "weight_decay": 0}
        check_at_least("self_training", self, {**at_least, "num_workers": -1, "cache_gb": 0})
        smallest, largest = SIZE_RANGE_PX
        if not smallest <= self.size_px <= largest:
            raise InputError(f"self_training.size_px is {self.size_px}; a view has {smallest} to {largest} pixels")
        if not 0 < self.min_scale <= 1:
            raise InputError(f"self_training.min_scale is {self.min_scale}; it is a share of the image in (0, 1]")
        if not 1 <= self.magnification <= 4:
            raise InputError(f"self_training.magnification is {self.magnification}; it is a factor in [1, 4]")
        if self.refine_until is not None and self.refine_until < 0:
            raise InputError(f"self_training.refine_until is {self.refine_until}; it is a round, 0 for none, or null")
        if not are_scales(self.scales):
            low, high = SCALE_RANGE
            raise InputError(
                f"self_training.scales is {list(self.scales)}; give 1 to {MAX_SCALES} numbers, each {low:g} to {high:g}"
            )
        if not 0 < self.kept_share <= 1:
            raise InputError(f"self_training.kept_share is {self.kept_share}; it is a share of the images in (0, 1]")
        if not self.learning_rate > 0:
            raise InputError(f"self_training.learning_rate is {self.learning_rate}; it must be positive")
        for name in ("averaging", "weight_averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"self_training.{name} is {getattr(self, name)}; it is a share in [0, 1)")
        for name in ("jitter", "jitter_strength", "grayscale", "cutmix", "teacher_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"self_training.{name} is {getattr(self, name)}; it lies in [0, 1]")

    @property
    def views(self) -> ViewSettings:
        """How the training views are drawn."""
        return ViewSettings(
            size_px=self.size_px,
            min_scale=self.min_scale,
            jitter=self.jitter,
            jitter_strength=self.jitter_strength,
            grayscale=self.grayscale,
            reduce_images=self.reduce_images,
        )

    @property
    def view_share(self) -> float:
        """Mean share of an image's area that a training view shows, or would show at the scale of magnified images."""
        return (self.views.min_scale + self.views.max_scale) / 2 / self.magnification**2


def train_saliency_network(
    fabric: Fabric,
    network: SaliencyNetwork,
    images: tuple[ImageRef, ...],
    targets: SoftMaps,
    settings: SelfTrainingSettings,
    seed: int,
    cache: SourceCache | None = None,
) -> float:
    """Train a network on soft targets, in place; returns the mean loss of the last epoch.

    A round of fewer than 100 steps is carried out, and a line on standard error says that it is short.

    Args:
        fabric: device and precision, one process.
        network: with its initial weights.
        images: the images that have a target.
        targets: their soft maps.
        settings: `rounds`, `averaging` and `warm_start` are not used here.
        seed: of the order of images and the views.
        cache: of these images and targets, if they are to be kept.

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
    wrapped, optimizer = fabric.setup(network, build_optimizer(network, network.parts.encoder, settings))
    average = _WeightAverage(network, settings.weight_averaging) if settings.weight_averaging else None
    is_frozen_norm = settings.weights is not None or settings.pretrained
    sampler = BatchSampler(len(images), settings.batch_size, settings.epochs, seed)
    views = TargetViews(images, targets, settings.views, cache)
    batches = draw_batches(views, sampler, settings.num_workers, collate_targets)
    say_if_short(sampler, "self-training", "self_training")
    torch.manual_seed(seed)
    wrapped.train()
    if is_frozen_norm:
        freeze_batch_norm(network.parts.encoder)

    def loss_of(view: TargetView) -> torch.Tensor:
        if average is not None:
            average.update(network)
        view = cutmix(view, settings.cutmix)
        logits = wrapped(fabric.to_device(view.image).contiguous(memory_format=torch.channels_last))
        return confidence_weighted_loss(logits.float(), fabric.to_device(view.target))

    outcome = fit_network(fabric, optimizer, batches, sampler, settings, loss_of, "self-training", "self_training")
    if average is not None:
        average.update(network)
        network.load_state_dict(average.state_dict())
    return outcome.loss


def cutmix(view: TargetView, probability: float) -> TargetView:
    """Lay a rectangle of each view of a batch over another one, image and target, with that probability for the batch.

    The rectangle is the same for all: its share of the area is uniform in [0, 1], its sides as those of a view, and its
    centre anywhere, as in equations 2 and 3 of the paper with alpha = 1, but that it lies inside the view. Views are
    matched by a random permutation; torch's random numbers draw all.

    Args:
        view: image (batch, 3, size, size), target (batch, size, size).
        probability: in [0, 1].
    """
    if probability == 0 or float(torch.rand(())) >= probability:
        return view
    height, width = view.target.shape[-2:]
    side = math.sqrt(float(torch.rand(())))
    rows, columns = round(height * side), round(width * side)
    top = int(torch.randint(0, height - rows + 1, ()))
    left = int(torch.randint(0, width - columns + 1, ()))
    order = torch.randperm(len(view.image))
    image, target = view.image.clone(), view.target.clone()
    inside = (..., slice(top, top + rows), slice(left, left + columns))
    image[inside], target[inside] = view.image[order][inside], view.target[order][inside]
    return TargetView(image, target)


class _WeightAverage:
    """The moving average of a network's weights and batch norm statistics; see `SelfTrainingSettings`."""

    def __init__(self, network: nn.Module, momentum: float) -> None:
        self._steps = 0
        self._momentum = momentum
        self._model = AveragedModel(network, multi_avg_fn=self._move, use_buffers=True)

    def update(self, network: nn.Module) -> None:
        """Take the weights after another step into the average."""
        self._model.update_parameters(network)
        self._steps += 1

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the average, under the names of the network."""
        return self._model.module.state_dict()

    def _move(self, average: Any, current: Any, _: Any) -> None:
        momentum = min(self._momentum, self._steps / (self._steps + _UNSURE_STEPS))
        get_ema_multi_avg_fn(momentum)(average, current, None)


def confidence_weighted_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy against `targets > 0.5`, each pixel weighted by how sure its target is.

    `sum_i |2 t_i - 1| CE(x_i, [t_i > 0.5]) / sum_i |2 t_i - 1|`; zero where no target is sure of anything.

    Args:
        logits: (batch, height, width). targets: the same shape, in [0, 1].
    """
    weights = (2 * targets - 1).abs()
    losses = nn.functional.binary_cross_entropy_with_logits(logits, (targets > 0.5).float(), reduction="none")
    return (weights * losses).sum() / weights.sum().clamp_min(1e-6)
