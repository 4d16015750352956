"""One step of promptable training: a simulated user prompts the model and corrects its masks, round by round."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from densessl.objectives.ambiguous_masks import best_mask_loss, pairwise_mask_loss
from densessl.objectives.mask_quality import iou_error, mask_iou
from densessl.promptable.backbone_encoder import BackboneEncoder
from densessl.promptable.object_views import ObjectBatch
from densessl.promptable.promptable_model import PromptableModel, PromptBatch
from densessl.promptable.simulated_prompts import (
    SimulatedPrompts,
    add_corrections,
    draw_rounds,
    first_prompts,
)
from densessl.training.promptable_settings import InteractionSettings


class InteractionResult(NamedTuple):
    """What a step found, each a scalar mean over prompts: `loss`, over all rounds, with gradient; the others without.

    first_mask_loss, later_mask_loss: weighted focal and dice loss of the first round, and of the rounds after it.
    iou_loss: squared error of the predicted IoU, over all rounds. first_iou: true IoU of the first round's mask of the
    highest predicted IoU. first_best_iou: of the best of its masks. last_iou: of the last round's mask.
    mask_agreement: IoU of the first round's masks with each other.
    """

    loss: torch.Tensor
    first_mask_loss: torch.Tensor
    later_mask_loss: torch.Tensor
    iou_loss: torch.Tensor
    first_iou: torch.Tensor
    first_best_iou: torch.Tensor
    last_iou: torch.Tensor
    mask_agreement: torch.Tensor


@dataclass(frozen=True)
class _Round:
    """mask_loss, iou_loss: (num_prompts,), with gradient. iou: (num_prompts, num_masks), of each mask.

    low_resolution: (num_prompts, 1, 4 h, 4 w), logits that go into the next round. mask: bool (num_prompts, height,
    width), the same on the grid of the targets.
    """

    mask_loss: torch.Tensor
    iou_loss: torch.Tensor
    iou: torch.Tensor
    low_resolution: torch.Tensor
    mask: torch.Tensor


class Interaction(nn.Module):
    """A model and its user: one forward pass is a whole interaction, so that gradients of all rounds come together."""

    def __init__(
        self,
        model: PromptableModel,
        settings: InteractionSettings,
        trained_encoder: Literal["all", "neck", "none"] = "all",
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.trained_encoder = trained_encoder

    def forward(
        self, encoded: tuple[torch.Tensor, ...], batch: ObjectBatch, generator: torch.Generator
    ) -> InteractionResult:
        """Simulate the interaction with all prompts of a batch.

        Args:
            encoded: images (batch, 3, side, side), framed, or what the untrained part of the encoder made of them.
            batch: the objects and the targets; its images are not looked at.
            generator: of the prompts, on the CPU.
        """
        embeddings = self._embed(encoded)
        decoding = _Decoding(self.model, embeddings, batch.image_of_mask[batch.targets], self.settings)
        targets, cell_px = batch.masks[batch.targets], self.settings.target_cell_px
        extents = batch.extents[decoding.image]
        is_image = image_cells(extents, targets.shape[-2:], cell_px)
        boxes = batch.boxes[batch.targets]
        prompts = first_prompts(
            targets, boxes, extents, self.settings.places, self.settings.box_share, self.settings.noise, generator
        )
        answers, is_answer = self._answers(prompts, targets, batch, cell_px)
        first, agreement = decoding.first_round(prompts, answers, is_answer)
        rounds = [first]
        for has_new_point in draw_rounds(self.settings.num_points, self.settings.num_refinements, generator):
            if has_new_point:
                prompts = add_corrections(prompts, rounds[-1].mask, targets, is_image, self.settings.places, generator)
            rounds.append(decoding.later_round(prompts, rounds[-1].low_resolution, targets))
        return self._sum_up(rounds, mask_iou(_on_grid(first.low_resolution, targets)[:, 0], targets), agreement)

    def _embed(self, encoded: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.trained_encoder == "all":
            return self.model.encode(encoded[0])
        if self.trained_encoder == "neck" and isinstance(self.model.image_encoder, BackboneEncoder):
            return self.model.image_encoder.join(encoded)
        return encoded[0]

    def _answers(
        self, prompts: SimulatedPrompts, targets: torch.Tensor, batch: ObjectBatch, cell_px: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the objects that answer each first prompt, bool (num_prompts, n, height, width), and which count."""
        if self.settings.nested_targets == "one":
            return targets[:, None], torch.ones(len(targets), 1, dtype=torch.bool, device=targets.device)
        rows = objects_at_clicks(prompts, batch, cell_px, self.model.settings.num_multimask)
        return batch.masks[rows.clamp_min(0)], rows >= 0

    def _sum_up(self, rounds: list[_Round], first_iou: torch.Tensor, agreement: torch.Tensor) -> InteractionResult:
        mask_loss = torch.stack([one.mask_loss for one in rounds]).mean(1)  # (rounds,)
        iou_loss = torch.stack([one.iou_loss for one in rounds]).mean()
        return InteractionResult(
            mask_loss.mean() + self.settings.iou_weight * iou_loss,
            mask_loss[0].detach(),
            mask_loss[1:].mean().detach(),
            iou_loss.detach(),
            first_iou.mean(),
            rounds[0].iou.max(1).values.mean(),
            rounds[-1].iou.mean(),
            agreement,
        )


@dataclass(frozen=True)
class _Decoding:
    """The decoder on the images of the prompts; `image` (num_prompts,) says which image each prompt is for."""

    model: PromptableModel
    embeddings: torch.Tensor
    image: torch.Tensor
    settings: InteractionSettings

    def first_round(
        self, prompts: SimulatedPrompts, answers: torch.Tensor, is_answer: torch.Tensor
    ) -> tuple[_Round, torch.Tensor]:
        """Predict several masks of each prompt; also returns the mean IoU between them."""
        batch = PromptBatch(prompts.points, prompts.labels, None, None, self.image)
        logits, predicted = self.model.decode(self.embeddings, batch, "multiple")
        on_grid = _on_grid(logits, answers)
        weights = self.settings.focal_weight, self.settings.dice_weight
        matched = best_mask_loss(pairwise_mask_loss(on_grid, answers, *weights), is_answer)
        true = mask_iou(on_grid[:, :, None], answers[:, None])  # (num_prompts, masks, answers)
        iou = torch.where(is_answer[:, None], true, 0.0).max(2).values
        chosen = predicted.detach().argmax(1)
        rows = torch.arange(len(logits), device=logits.device)
        low_resolution = logits.detach().float()[rows, chosen][:, None]
        found = _Round(
            matched.loss,
            iou_error(predicted, iou).mean(1),
            iou,
            low_resolution,
            on_grid.detach()[rows, chosen] > 0,
        )
        return found, _agreement(on_grid.detach() > 0)

    def later_round(self, prompts: SimulatedPrompts, low_resolution: torch.Tensor, targets: torch.Tensor) -> _Round:
        """Predict the single mask of each prompt, the mask of the round before being part of it."""
        batch = PromptBatch(prompts.points, prompts.labels, low_resolution, None, self.image)
        logits, predicted = self.model.decode(self.embeddings, batch, "single")
        on_grid = _on_grid(logits, targets)
        weights = self.settings.focal_weight, self.settings.dice_weight
        loss = pairwise_mask_loss(on_grid, targets[:, None], *weights)[:, 0, 0]
        iou = mask_iou(on_grid, targets[:, None])
        return _Round(
            loss,
            iou_error(predicted, iou)[:, 0],
            iou,
            logits.detach().float(),
            on_grid.detach()[:, 0] > 0,
        )


def objects_at_clicks(prompts: SimulatedPrompts, batch: ObjectBatch, cell_px: int, most: int) -> torch.Tensor:
    """Return the objects that answer each prompt, rows of `batch.masks`, int64 (num_prompts, n), -1 for none.

    A click is answered by every object of its image that contains it: first the one that it was drawn from, then the
    others, the largest first, `most` in all. A box is answered by the object that it was drawn around alone.
    """
    x, y = (prompts.points[:, 0] / cell_px).long().unbind(1)
    height, width = batch.masks.shape[-2:]
    contains = batch.masks[:, y.clamp(0, height - 1), x.clamp(0, width - 1)].T  # (num_prompts, num_masks)
    same_image = batch.image_of_mask[batch.targets][:, None] == batch.image_of_mask[None]
    is_other = contains & same_image & prompts.is_click[:, None]
    is_other.scatter_(1, batch.targets[:, None], value=False)
    areas = batch.masks.flatten(1).sum(1)
    order = torch.where(is_other, areas, -1).argsort(dim=1, descending=True, stable=True)[:, : most - 1]
    others = torch.where(is_other.gather(1, order), order, -1)
    rows = torch.cat([batch.targets[:, None], others], dim=1)
    return rows[:, : 1 + int((others >= 0).sum(1).max())]


def image_cells(extents: torch.Tensor, grid: Sequence[int], cell_px: int) -> torch.Tensor:
    """Return which cells of a grid (height, width) have their centre within images of `extents` (num, 2), (w, h)."""
    height, width = grid
    y, x = ((torch.arange(side, device=extents.device) + 0.5) * cell_px for side in (height, width))
    return (x[None, None] < extents[:, 0, None, None]) & (y[None, :, None] < extents[:, 1, None, None])


def _on_grid(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Bring logits (num, masks, h, w) to the grid of the targets, in float32."""
    if logits.shape[-2:] == targets.shape[-2:]:
        return logits.float()
    return nn.functional.interpolate(logits.float(), targets.shape[-2:], mode="bilinear")


def _agreement(masks: torch.Tensor) -> torch.Tensor:
    """Return the mean IoU of the pairs of masks (num, m, height, width) of a prompt; 1 for a single one."""
    num_masks = masks.shape[1]
    pairs = [(first, second) for first in range(num_masks) for second in range(first + 1, num_masks)]
    if not pairs:
        return torch.ones(())
    first, second = (masks[:, list(column)] for column in zip(*pairs, strict=True))
    shared, either = (first & second).sum((-2, -1)), (first | second).sum((-2, -1))
    return (shared / either.clamp_min(1)).mean()
