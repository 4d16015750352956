"""What `pretrain` says of the network while it trains: do its clusters repeat, and, if asked, do they match labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from densessl.data.masks import MaskFolder
from densessl.errors import InputError
from densessl.evaluation.cluster_segmentation import (
    cluster_repeatedly,
    fitted_vectors,
    read_label,
    score_clusterings,
)
from densessl.evaluation.clustering import stability
from densessl.evaluation.extraction import EmbeddedImage, Extraction, embed_images
from densessl.evaluation.network_features import NetworkFeatures
from densessl.evaluation.protocols import protocol_by_name
from densessl.machine import loader_processes
from densessl.models.mask_contrast_model import MaskContrastModel
from densessl.structures import ImageRef, ImageSet
from densessl.training.settings import TrainingSettings

MAX_IMAGES = 512
"""Images that are clustered at most, spread evenly over those that are trained on; the same ones each time."""
NUM_CLUSTERS = 20
"""Clusters of the foreground where there are no class names (PASCAL VOC's number), fewer for few images."""
LEAST_PER_CLUSTER = 4
SEEDS = range(3)
NUM_STARTS = 1
"""Starts of k-means: of one, seeds differ where the data leave them room; the best of many hides that."""

Item = TypeVar("Item")


class OnlineEvaluation:
    """Clusters the mask prototypes of a fixed part of the training images; called with the network in training.

    `cluster_stability`: k-means (protocol `native` with one start, images at the size of the training views) on one
    prototype per mask, once for each of the seeds 0, 1 and 2; the mean adjusted Rand index (Hubert and Arabie 1985) of
    the three pairs of assignments: 1 where all agree, about 0 where they agree no more than chance. No label is read.

    `kmeans_miou_with_labels`, where `training.evaluate_with_labels` asks for it: the same clusterings scored as
    `cluster --foreground masks` does, mean over the seeds, in [0, 1]. Labels are read for it, for monitoring only.

    Raises:
        InputError: too few images, no labels where they are asked for, or labels out of range.
    """

    def __init__(
        self,
        image_set: ImageSet,
        usable: tuple[ImageRef, ...],
        masks: MaskFolder,
        image_size_px: int,
        training: TrainingSettings,
        device: torch.device,
    ) -> None:
        self._images = replace(image_set, images=tuple(spread_evenly(usable, MAX_IMAGES)))
        if len(self._images) < 2 * LEAST_PER_CLUSTER:
            raise InputError(
                f"training.evaluate_every is {training.evaluate_every}, but {len(self._images)} images are too few to "
                f"cluster; give {2 * LEAST_PER_CLUSTER} or more, or set it to 0"
            )
        self._masks, self._device, self._num_workers = masks.only(self._images.images), device, training.num_workers
        protocol = protocol_by_name("native", image_size_px)
        self._protocol = replace(protocol, num_initialisations=NUM_STARTS)
        self._classes = tuple(range(len(image_set.class_names))) if training.evaluate_with_labels else ()
        if training.evaluate_with_labels:
            self._check_labels()

    def __call__(self, model: MaskContrastModel) -> dict[str, float]:
        extraction = self._embed(model)
        num_wanted = len(self._classes) - 1 if self._classes else NUM_CLUSTERS
        num_clusters = max(2, min(num_wanted, len(fitted_vectors(extraction)) // LEAST_PER_CLUSTER))
        found = cluster_repeatedly(extraction, num_clusters, self._protocol, SEEDS)
        values = {"cluster_stability": stability([item.assignments for item in found])}
        if self._classes:
            values["kmeans_miou_with_labels"] = score_clusterings(self._images, extraction, found, self._classes).miou
        return values

    def _embed(self, model: MaskContrastModel) -> Extraction:
        embedded = embed_images(
            self._images.images,
            NetworkFeatures(model, "embedding"),
            self._protocol,
            "masks",
            self._masks,
            num_workers=loader_processes(self._num_workers),
            device=self._device,
        )
        items = list(embedded)
        images = tuple(item for item in items if isinstance(item, EmbeddedImage))
        return Extraction(images, tuple(item for item in items if not isinstance(item, EmbeddedImage)))

    def _check_labels(self) -> None:
        """Read every label once, so that a broken one stops the run before it begins and not after an epoch."""
        if self._images.labels is None or not self._classes:
            raise InputError(
                f"training.evaluate_with_labels is true, but {self._images.name} has no labels; give --data with a "
                "labelled split, or leave training.evaluate_with_labels false"
            )
        for ref in self._images.images:
            read_label(self._images, ref)


def monitoring_note(image_set: ImageSet) -> str:
    """Return the sentence by which the record of a run says that labels were read while it trained."""
    return (
        f"labels of {image_set.name} were read during training to log kmeans_miou_with_labels, for monitoring only; "
        "nothing was trained on or selected by them"
    )


def spread_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most `most` items in their order, spread evenly over all."""
    num = min(most, len(items))
    return [items[index * len(items) // num] for index in range(num)]
