"""The numbers behind `explain`: one pair of views through network, twin and loss, and masks that resemble it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from densessl.commands.online_evaluation import spread_evenly
from densessl.data.images import read_image
from densessl.data.masks import MaskFolder
from densessl.data.view_batches import ViewPair, collate_views, unpack_views
from densessl.data.view_settings import ViewSettings
from densessl.data.view_sources import instance_map
from densessl.errors import InputError
from densessl.evaluation.extraction import EmbeddedImage, embed_images
from densessl.evaluation.network_features import NetworkFeatures
from densessl.evaluation.protocols import Weighting, protocol_by_name
from densessl.models.mask_contrast_model import MaskContrastModel, ViewMasks
from densessl.objectives.false_negatives import false_negative_share
from densessl.objectives.loss_rows import select_cells
from densessl.objectives.mask_prototypes import index_masks, mask_membership, mask_prototypes
from densessl.objectives.row_losses import row_losses
from densessl.objectives.settings import ObjectiveSettings
from densessl.report.explanation import Explanation, SimilarMask
from densessl.structures import ImageArray, ImageRef, ViewBatch


class LossRows(NamedTuple):
    """Rows of the loss, pixels or whole masks: unit embeddings (num, dim), and the prototype of each (num,)."""

    embeddings: torch.Tensor
    masks: torch.Tensor


@dataclass(frozen=True)
class EndOfRun:
    """What training ended with: network and twin in evaluation mode, and the memory bank (length, dim)."""

    model: MaskContrastModel
    twin: MaskContrastModel
    queue: torch.Tensor
    objective: ObjectiveSettings
    num_steps: int
    device: torch.device


@dataclass(frozen=True)
class DescribedPair:
    """A pair of views as the loss sees it.

    prototype: float32 (dim,), the query prototype of the largest mask. masks: numbers of each mask. The others are as
    in `Explanation`.
    """

    pair: ViewPair
    end: EndOfRun
    prototype: NDArray[np.float32]
    similarity: NDArray[np.float32]
    loss: NDArray[np.float32]
    chance: float
    false_negative_share: float
    masks: tuple[dict[str, float], ...]

    def to_explanation(
        self, stem: str, similar: Sequence[SimilarMask], notes: Sequence[str], source: Mapping[str, Any]
    ) -> Explanation:
        """Put together what is drawn and written; `source` names run, image, mask and seed."""
        objective, largest = self.end.objective, self.masks[0]
        notes = [*notes, *self._notes()]
        facts = {
            "Run": f"{source['run']}, after step {self.end.num_steps}",
            "Image": str(source["image"]),
            "Loss": f"{objective.mode}, temperature {objective.temperature:g}, memory bank of {len(self.end.queue)}",
            "Masks with a positive": str(len(self.masks)),
            "Loss of the largest mask": f"{largest['loss']:.3f} (chance {self.chance:.3f})",
            "Similarity to its positive": f"{largest['positive_similarity']:.3f}",
        }
        if len(self.end.queue):
            mean, highest = largest["queue_similarity_mean"], largest["queue_similarity_highest"]
            facts["Similarity to the memory bank"] = f"mean {mean:.3f}, highest {highest:.3f}"
            facts["Likely false negatives in the memory bank"] = f"{self.false_negative_share:.1%}"
        numbers = {
            **source,
            "num_steps": self.end.num_steps,
            "mode": objective.mode,
            "temperature": objective.temperature,
            "queue_length": len(self.end.queue),
            "chance_loss": self.chance,
            "false_negative_share": self.false_negative_share,
            "masks": list(self.masks),
            "similar": [{"stem": item.stem, "mask": item.number, "similarity": item.similarity} for item in similar],
            "notes": notes,
        }
        return Explanation(
            title=stem,
            query=_photo(self.pair.query_image),
            key=_photo(self.pair.key_image),
            query_masks=self.pair.query_mask.long().numpy(),
            key_masks=self.pair.key_mask.long().numpy(),
            similarity=self.similarity,
            loss=self.loss,
            chance=self.chance,
            similar=tuple(similar),
            facts=facts,
            notes=tuple(notes),
            numbers=numbers,
        )

    def _notes(self) -> list[str]:
        notes = []
        if self.end.model.embedding_of == "masks":
            notes.append(
                "This network embeds whole masks: its loss has one row per mask, given below; the map of the loss "
                "shows what each pixel would score by itself."
            )
        if self.end.objective.confidence_weighted:
            notes.append("In training pixels weigh as much as their mask is sure of them; here all weigh the same.")
        if self.end.objective.background == "negatives":
            notes.append("In training the backgrounds of the batch are negatives too; here they are left out.")
        if self.end.objective.swav_weight:
            notes.append("The run's loss also has a term of learned prototypes, which is not drawn.")
        if self.end.objective.mode == "reference":
            notes.append("In training other masks of the batch are negatives too; here there are only this image's.")
        return notes


@torch.no_grad()
def describe_pair(pair: ViewPair, end: EndOfRun) -> DescribedPair:
    """Send two views of an image through network, twin and loss.

    Raises:
        InputError: no mask is in both views, or so small that the feature grid passes over it.
    """
    views = unpack_views(collate_views([pair]), end.device)
    query_masks, key_masks = views.query_masks, views.key_masks
    index = index_masks(query_masks, key_masks)
    query = end.model(views.query_images).embedding.float()
    if end.objective.resolution == "full":
        query = F.interpolate(query, size=query_masks.shape[-2:], mode="bilinear", align_corners=False)
    prototypes, is_present = _key_prototypes(views, end)
    column = torch.where(is_present, is_present.cumsum(0) - 1, -1)
    prototypes = prototypes[is_present]
    cells, own_masks = select_cells(index.query, column, query.shape[-2:])
    rows = LossRows(F.normalize(query.permute(0, 2, 3, 1).flatten(0, 2)[cells], dim=1), own_masks)
    if len(rows.masks) == 0:
        raise InputError(
            f"no mask of {pair.stem!r} is in both views and on the feature grid; try another --seed, or a larger mask"
        )
    unit = F.normalize(query, dim=1)[0]  # (dim, h, w)
    own = _own_columns(index.query, column, (unit.shape[1], unit.shape[2]))  # (h, w)
    similarity = torch.einsum("md,dhw->mhw", prototypes, unit)
    nearest = similarity.amax(0)
    picked = torch.where(own >= 0, similarity.gather(0, own.clamp_min(0)[None])[0], nearest)
    loss = torch.full(own.shape, torch.nan, device=own.device)
    loss[own >= 0] = _losses(rows, prototypes, end)
    wholes = _whole_rows(rows, views, end)
    own_losses = _losses(wholes, prototypes, end)
    sizes = torch.bincount(rows.masks, minlength=len(prototypes))
    is_whole = end.model.embedding_of == "masks"
    numbers = []
    for number in sizes.argsort(descending=True, stable=True).tolist():
        if sizes[number] == 0:
            continue
        whole = int((wholes.masks == number).nonzero()[0])
        queued = end.queue @ wholes.embeddings[whole]
        pixel_losses = loss[own == number]
        numbers.append(
            {
                "mask": int((column == number).nonzero()[0]) + 1,
                "num_cells": int(sizes[number]),
                "loss": float(own_losses[whole] if is_whole else pixel_losses.mean()),
                "positive_similarity": float(wholes.embeddings[whole] @ prototypes[number]),
                **_describe_queue(queued),
            }
        )
    first = int((wholes.masks == sizes.argmax()).nonzero()[0])
    sums = torch.zeros_like(prototypes).index_add_(0, wholes.masks, wholes.embeddings)
    return DescribedPair(
        pair=pair,
        end=end,
        prototype=wholes.embeddings[first].cpu().numpy(),
        similarity=picked.cpu().numpy(),
        loss=loss.cpu().numpy(),
        chance=_chance(len(prototypes), len(end.queue), end.objective),
        false_negative_share=float(false_negative_share(sums, prototypes, end.queue)),
        masks=tuple(numbers),
    )


def gather_similar(
    images: Sequence[ImageRef],
    masks: MaskFolder,
    model: MaskContrastModel,
    prototype: NDArray[np.float32],
    views: ViewSettings,
    num_images: int,
    num_similar: int,
) -> tuple[SimilarMask, ...]:
    """Return the masks of other images whose prototypes are most similar to one, the most similar first.

    Args:
        images: where to look, `num_images` of them at most, spread evenly; those without a mask are passed over.
        masks: their masks.
        model: embeds them, at the height and width of views.
        prototype: (dim,), unit vector.
        views: how the run draws its views, and whether it takes connected regions for masks.
        num_images, num_similar: how many are looked at, and how many are returned.
    """
    looked_at = spread_evenly([ref for ref in images if ref.stem in masks.files], num_images)
    weighting: Weighting = "mask_sum" if model.embedding_of == "masks" else "mask_mean"  # as in training
    protocol = replace(protocol_by_name("native", views.size_px), weighting=weighting)
    device = next(model.parameters()).device
    embedded = embed_images(
        looked_at,
        NetworkFeatures(model, "embedding"),
        protocol,
        "masks",
        masks,
        split_instances=views.split_instances,
        device=device,
    )
    found = [
        (float(vector @ prototype), ref, number)
        for ref, item in zip(looked_at, embedded, strict=True)
        if isinstance(item, EmbeddedImage)
        for number, (vector, has_prototype) in enumerate(zip(item.vectors, item.has_prototype, strict=True), 1)
        if has_prototype
    ]
    found.sort(key=lambda entry: -entry[0])
    return tuple(_similar_mask(*entry, masks, views.split_instances) for entry in found[:num_similar])


def _similar_mask(
    similarity: float, ref: ImageRef, number: int, masks: MaskFolder, split_instances: bool
) -> SimilarMask:
    photo = read_image(ref.path)
    mask = instance_map(masks, ref, photo.shape[:2], split_instances) == number
    return SimilarMask(ref.stem, number, similarity, photo, mask)


def _key_prototypes(views: ViewBatch, end: EndOfRun) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prototypes of the masks in the key view (num_masks, dim), and which of them it shows."""
    index = index_masks(views.query_masks, views.key_masks)
    if end.model.embedding_of == "masks":
        view = ViewMasks(mask_membership(index.key, index.image), index.image)
        is_present = view.membership.flatten(1).any(1)
        return F.normalize(end.twin(views.key_images, view).embedding.float(), dim=1), is_present
    key = end.twin(views.key_images).embedding.float()
    if end.objective.resolution == "full":
        key = F.interpolate(key, size=views.key_masks.shape[-2:], mode="bilinear", align_corners=False)
    return mask_prototypes(F.normalize(key, dim=1), index.key, index.image)


def _whole_rows(rows: LossRows, views: ViewBatch, end: EndOfRun) -> LossRows:
    """Return one row per mask that has pixels among the rows: its query prototype, or its own embedding."""
    numbers = rows.masks.unique()
    if end.model.embedding_of == "pixels":
        sums = torch.stack([rows.embeddings[rows.masks == number].sum(0) for number in numbers])
        return LossRows(F.normalize(sums, dim=1), numbers)
    index = index_masks(views.query_masks, views.key_masks)
    in_query, in_key = (mask_membership(masks, index.image) for masks in (index.query, index.key))
    embedded = end.model(views.query_images, ViewMasks(in_query, index.image)).embedding
    is_present = in_key.flatten(1).any(1)  # rows count the masks of the key view
    return LossRows(F.normalize(embedded[is_present].float(), dim=1)[numbers], numbers)


def _describe_queue(similarity: torch.Tensor) -> dict[str, float]:
    if len(similarity) == 0:
        return {}
    return {"queue_similarity_mean": float(similarity.mean()), "queue_similarity_highest": float(similarity.max())}


def _own_columns(masks: torch.Tensor, column: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the prototype of each cell's mask (h, w), -1 for background and masks without one, as `select_cells`."""
    numbers = F.interpolate(masks[:, None].float(), size=size, mode="nearest-exact")[0, 0].long()
    return torch.where(numbers >= 0, column[numbers.clamp_min(0)], -1)


def _losses(rows: LossRows, prototypes: torch.Tensor, end: EndOfRun) -> torch.Tensor:
    objective = end.objective
    return row_losses(
        rows.embeddings,
        rows.masks,
        prototypes,
        end.queue,
        objective.temperature,
        mode=objective.mode,
        exclude_similar=objective.exclude_similar,
    )


def _chance(num_prototypes: int, queue_length: int, objective: ObjectiveSettings) -> float:
    """Return the loss of a row that is equally similar to all its columns."""
    num_negatives = queue_length + (num_prototypes - 1 if objective.mode == "reference" else 0)
    return math.log(1 + num_negatives - int(num_negatives * objective.exclude_similar))


def _photo(view: torch.Tensor) -> ImageArray:
    """Turn a view (3, height, width) into an image (height, width, 3), both uint8 RGB."""
    photo: ImageArray = np.ascontiguousarray(view.permute(1, 2, 0).numpy())
    return photo
