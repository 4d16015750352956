"""A simulated interaction: what each round learns, whose answers a click has, and what the next round is given."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from tiny_promptable import INTERACTION, MODEL, build

from densessl.objectives.dice_loss import dice_loss
from densessl.objectives.focal_loss import focal_loss
from densessl.promptable.mask_decoder import DecodedMasks
from densessl.promptable.object_views import ObjectBatch
from densessl.promptable.promptable_model import PromptBatch
from densessl.promptable.simulated_prompts import SimulatedPrompts
from densessl.training.interaction import Interaction, image_cells, objects_at_clicks
from densessl.training.promptable_settings import InteractionSettings

CELL = 4


def _batch(num_images: int = 2) -> ObjectBatch:
    """In each image a whole, a part in it, and another object beside them, on 12 x 12 cells."""
    masks = torch.zeros(3, 12, 12, dtype=torch.bool)
    masks[0, 1:9, 1:9] = True
    masks[1, 2:5, 2:5] = True
    masks[2, 9:11, 8:11] = True
    boxes = torch.tensor([[4.0, 4, 36, 36], [8, 8, 20, 20], [32, 36, 44, 44]])
    generator = torch.Generator().manual_seed(0)
    return ObjectBatch(
        torch.randn(num_images, 3, 48, 48, generator=generator),
        torch.arange(num_images),
        (),
        torch.zeros(0, dtype=torch.int64),
        masks.repeat(num_images, 1, 1),
        torch.arange(num_images).repeat_interleave(3),
        boxes.repeat(num_images, 1),
        torch.tensor([0, 1, 2, 4, 4][: 3 if num_images == 1 else 5]),
        torch.tensor([[48.0, 48.0]]).repeat(num_images, 1),
    )


def _run(settings: InteractionSettings, seed: int = 0) -> tuple[Interaction, torch.Tensor]:
    interaction = Interaction(build(), settings)
    batch = _batch()
    result = interaction((batch.images,), batch, torch.Generator().manual_seed(seed))
    return interaction, result.loss


@pytest.mark.parametrize("nested_targets", ["one", "all"])
def test_gradients_reach_all_that_is_trained(nested_targets: str) -> None:
    interaction, loss = _run(dataclasses.replace(INTERACTION, nested_targets=nested_targets))
    loss.backward()
    unused = {name for name, value in interaction.named_parameters() if value.grad is None}
    assert not unused  # DistributedDataParallel waits for every parameter
    assert loss.isfinite()


def test_the_same_generator_gives_the_same_interaction() -> None:
    assert torch.equal(_run(INTERACTION, 1)[1], _run(INTERACTION, 1)[1])
    assert not torch.equal(_run(INTERACTION, 1)[1], _run(INTERACTION, 2)[1])


def test_the_loss_is_that_of_the_rounds_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the decoder's own outputs, round by round and prompt by prompt, for one target each."""
    interaction = Interaction(build().eval(), INTERACTION)
    decode, seen = interaction.model.decode, []

    def recorded(embeddings: torch.Tensor, prompts: PromptBatch, outputs: str, *rest: object) -> DecodedMasks:
        seen.append((prompts, decode(embeddings, prompts, outputs, *rest)))  # type: ignore[arg-type]
        return seen[-1][1]

    monkeypatch.setattr(interaction.model, "decode", recorded)
    batch = _batch()
    result = interaction((batch.images,), batch, torch.Generator().manual_seed(0))
    targets = batch.masks[batch.targets]
    per_round = []
    for number, (_, (logits, predicted)) in enumerate(seen):
        total = 0.0
        for prompt, target in enumerate(targets):
            losses, errors = [], []
            for mask in range(logits.shape[1]):
                one = logits[prompt, mask]
                losses.append((20 * focal_loss(one, target) + dice_loss(one, target)).item())
                found = (one > 0) & target
                iou = (found.sum() / ((one > 0) | target).sum()).item()
                errors.append((predicted[prompt, mask].item() - iou) ** 2)
            assert number == 0 or len(losses) == 1
            total += min(losses) + float(np.mean(errors))
        per_round.append(total / len(targets))
    assert len(seen) == 3
    assert result.loss.item() == pytest.approx(np.mean(per_round), rel=1e-5)
    for before, after in itertools.pairwise(seen):
        fed = after[0].masks
        chosen = before[1].predicted_iou.argmax(1)
        assert torch.equal(fed[:, 0], before[1].logits[torch.arange(len(targets)), chosen])
        assert not fed.requires_grad
    assert [len(prompts.labels[0]) for prompts, _ in seen] == [2, 3, 3]
    assert seen[0][0].masks is None
    assert torch.equal(seen[1][0].image, batch.image_of_mask[batch.targets])


def test_a_click_is_answered_by_the_objects_around_it_and_a_box_by_its_own() -> None:
    batch = _batch()
    points = torch.tensor([[[24.0, 24], [0, 0]], [[12, 12], [0, 0]], [[36, 40], [0, 0]], [[12, 12], [0, 0]]])
    points = torch.cat([points, torch.tensor([[[8.0, 8], [20, 20]]])])
    labels = torch.tensor([[1, -1], [1, -1], [1, -1], [1, -1], [2, 3]])
    found = objects_at_clicks(SimulatedPrompts(points, labels), batch, CELL, 3)
    assert found.tolist() == [[0, -1], [1, 0], [2, -1], [4, 3], [4, -1]]
    assert objects_at_clicks(SimulatedPrompts(points, labels), batch, CELL, 1).tolist() == [[0], [1], [2], [4], [4]]


def test_of_many_answers_the_largest_are_kept() -> None:
    batch = _batch(1)
    masks = torch.ones(5, 12, 12, dtype=torch.bool)
    for index in range(5):
        masks[index, :, 12 - index :] = False
    batch = batch._replace(masks=masks, image_of_mask=torch.zeros(5).long(), targets=torch.tensor([4, 0]))
    prompts = SimulatedPrompts(torch.zeros(2, 2, 2), torch.tensor([[1, -1]]).repeat(2, 1))
    assert objects_at_clicks(prompts, batch, CELL, 3).tolist() == [[4, 0, 1], [0, 1, 2]]


def test_the_padding_is_no_part_of_the_image() -> None:
    """A cell belongs to it where its centre does: that of row 7 lies at 30, that of column 2 at 10."""
    cells = image_cells(torch.tensor([[48.0, 31.0], [10.0, 48.0]]), (12, 12), CELL)
    assert cells[0, :8].all()
    assert not cells[0, 8:].any()
    assert cells[1, :, :2].all()
    assert not cells[1, :, 2:].any()


def test_masks_are_compared_on_a_finer_grid_where_that_is_asked_for() -> None:
    batch = _batch()
    fine = batch._replace(masks=batch.masks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    interaction = Interaction(build(MODEL), dataclasses.replace(INTERACTION, target_cell_px=2))
    result = interaction((batch.images,), fine, torch.Generator().manual_seed(0))
    result.loss.backward()
    assert result.loss.isfinite()
