"""The numbers behind `explain` are those of the training loss."""

import pytest
import torch
from torch.nn import functional as F

from densessl.commands.explanation import EndOfRun, describe_pair
from densessl.data.view_batches import ViewPair, collate_views, unpack_views
from densessl.errors import InputError
from densessl.models.mask_contrast_model import ModelSettings, ViewMasks, build_model
from densessl.models.momentum_twin import make_twin
from densessl.objectives.mask_contrast import contrast_masks, contrast_views
from densessl.objectives.settings import ObjectiveSettings
from densessl.structures import ViewBatch


def make_end(objective: ObjectiveSettings, embedding_of: str = "pixels") -> EndOfRun:
    torch.manual_seed(0)
    settings = ModelSettings(
        encoder="test_resnet", output_stride=16, decoder="none", embedding_dim=4, embedding_of=embedding_of
    )
    model = build_model(settings).eval()
    queue = F.normalize(torch.randn(objective.queue_length, 4), dim=1)
    return EndOfRun(model, make_twin(model), queue, objective, 7, torch.device("cpu"))


def make_pair() -> ViewPair:
    """Two masks in the query view, of which the key view shows the second alone and a third."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    query, key = torch.zeros(2, 64, 64, dtype=torch.uint8)
    query[:32, :], query[40:, 16:] = 1, 2
    key[16:48, :], key[48:, :] = 2, 3
    return ViewPair(images[0], query, images[1], key, "drawn", 0)


def unpack(pair: ViewPair) -> ViewBatch:
    return unpack_views(collate_views([pair]), torch.device("cpu"))


@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_the_mean_over_the_map_is_the_loss_of_training(resolution: str) -> None:
    objective = ObjectiveSettings(mode="formula", queue_length=6, resolution=resolution)
    pair, end = make_pair(), make_end(objective)
    described = describe_pair(pair, end)
    with torch.no_grad():
        views = unpack(pair)
        query, key = end.model(views.query_images).embedding, end.twin(views.key_images).embedding
        term = contrast_views(query, views.query_masks, key, views.key_masks, end.queue, objective)
    values = torch.from_numpy(described.loss)
    assert int(values.isfinite().sum()) == term.num_rows
    assert values.nanmean().item() == pytest.approx(term.loss.item(), rel=1e-5)
    (mask,) = described.masks  # the first has no positive, the third no pixel in the query view
    assert (mask["mask"], mask["num_cells"]) == (2, term.num_rows)
    assert mask["loss"] == pytest.approx(term.loss.item(), rel=1e-5)
    on_mask = torch.from_numpy(described.similarity)[values.isfinite()]
    assert on_mask.mean().item() == pytest.approx(term.positive_similarity.item(), rel=1e-4)
    assert described.false_negative_share == pytest.approx(term.false_negative_share.item())


def test_a_network_that_embeds_masks() -> None:
    objective = ObjectiveSettings(mode="formula", queue_length=6)
    pair, end = make_pair(), make_end(objective, "masks")
    described = describe_pair(pair, end)
    with torch.no_grad():
        rows, keys = [], []
        views = unpack(pair)
        for network, images, masks, into in (
            (end.model, views.query_images, views.query_masks, rows),
            (end.twin, views.key_images, views.key_masks, keys),
        ):
            into.append(network(images, ViewMasks(masks == 2, torch.zeros(1, dtype=torch.int64))).embedding)
        term = contrast_masks(rows[0], keys[0], torch.tensor([True]), end.queue, objective)
    (mask,) = described.masks
    assert mask["loss"] == pytest.approx(term.loss.item(), rel=1e-4)
    assert mask["positive_similarity"] == pytest.approx(term.positive_similarity.item(), rel=1e-4)


def test_without_a_memory_bank() -> None:
    described = describe_pair(make_pair(), make_end(ObjectiveSettings(queue_length=0)))
    assert "queue_similarity_mean" not in described.masks[0]
    assert described.chance == pytest.approx(torch.tensor(2.0).log().item())  # the key view shows two masks


def test_no_mask_in_both_views() -> None:
    pair = make_pair()._replace(key_mask=torch.full((64, 64), 3, dtype=torch.uint8))
    with pytest.raises(InputError, match="no mask of 'drawn' is in both views"):
        describe_pair(pair, make_end(ObjectiveSettings()))
