"""The MaskContrast losses against double loops over the equations, and where formula and publication differ."""

import math

import pytest
import torch
from torch.nn import functional as F

from densessl.errors import InputError
from densessl.objectives.contrastive_losses import formula_loss, most_similar, reference_loss
from densessl.objectives.loss_rows import select_cells
from densessl.objectives.mask_contrast import ContrastiveTerm, contrast_masks, contrast_views
from densessl.objectives.settings import ObjectiveSettings

TEMPERATURE = 0.5


def _unit(num: int, dim: int, seed: int) -> torch.Tensor:
    rows = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=1)


def _rows(queue_length: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Seven pixels of three masks, the third of which has a single pixel."""
    masks = torch.tensor([0, 0, 1, 0, 1, 2, 0])
    return _unit(7, 4, 1).requires_grad_(), masks, _unit(3, 4, 2), _unit(queue_length, 4, 3)


def _slow_formula(
    pixels: torch.Tensor, masks: torch.Tensor, prototypes: torch.Tensor, queue: torch.Tensor
) -> torch.Tensor:
    total = torch.zeros((), dtype=pixels.dtype)
    for i in range(len(pixels)):
        positive = torch.exp(torch.dot(pixels[i], prototypes[masks[i]]) / TEMPERATURE)
        denominator = positive
        for k in range(len(queue)):
            denominator = denominator + torch.exp(torch.dot(pixels[i], queue[k]) / TEMPERATURE)
        total = total - torch.log(positive / denominator)
    return total / len(pixels)


def _slow_reference(
    pixels: torch.Tensor, masks: torch.Tensor, prototypes: torch.Tensor, queue: torch.Tensor
) -> torch.Tensor:
    total, total_weight = torch.zeros((), dtype=pixels.dtype), 0.0
    for i in range(len(pixels)):
        denominator = torch.zeros((), dtype=pixels.dtype)
        for column in [*prototypes, *queue]:
            denominator = denominator + torch.exp(torch.dot(pixels[i], column) / TEMPERATURE)
        positive = torch.exp(torch.dot(pixels[i], prototypes[masks[i]]) / TEMPERATURE)
        share = sum(int(other) == int(masks[i]) for other in masks) / len(masks)
        weight = 1.0 / math.log(1.02 + share)
        total = total - weight * torch.log(positive / denominator)
        total_weight += weight
    return total / total_weight


LOSSES = [(formula_loss, _slow_formula), (reference_loss, _slow_reference)]


@pytest.mark.parametrize(("loss", "slow"), LOSSES)
@pytest.mark.parametrize("queue_length", [1, 5])
def test_value_and_gradient_equal_the_double_loop(loss, slow, queue_length: int) -> None:
    pixels, masks, prototypes, queue = _rows(queue_length)
    value, expected = loss(pixels, masks, prototypes, queue, TEMPERATURE), slow(pixels, masks, prototypes, queue)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,), (expected_gradient,) = torch.autograd.grad(value, pixels), torch.autograd.grad(expected, pixels)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("loss", [formula_loss, reference_loss])
def test_gradcheck(loss) -> None:
    pixels, masks, prototypes, queue = _rows()
    assert torch.autograd.gradcheck(lambda rows: loss(rows, masks, prototypes, queue, TEMPERATURE), [pixels])


@pytest.mark.parametrize("loss", [formula_loss, reference_loss])
@pytest.mark.parametrize("excluded", [0.0, 0.4])
def test_parts_add_up_to_the_whole_batch(loss, excluded: float) -> None:
    """Two processes with three and four of the pixels, and a third that has none."""
    pixels, masks, prototypes, queue = _rows()
    counts = torch.bincount(masks, minlength=3)
    value = loss(pixels, masks, prototypes, queue, TEMPERATURE, exclude_similar=excluded)
    total = torch.zeros((), dtype=pixels.dtype)
    for rows in (slice(0, 3), slice(3, 7), slice(7, 7)):
        part = (pixels[rows], masks[rows], prototypes, queue, TEMPERATURE)
        total = total + loss(*part, exclude_similar=excluded, counts=counts)
    assert total.item() == pytest.approx(value.item(), rel=1e-12)
    (gradient,), (expected,) = torch.autograd.grad(total, pixels), torch.autograd.grad(value, pixels)
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_excluded_negatives_equal_the_double_loop(share: float) -> None:
    pixels, masks, prototypes, queue = _rows(6)
    losses = torch.zeros(2, dtype=pixels.dtype)
    weights = torch.zeros(2, dtype=pixels.dtype)
    for i, mask in enumerate(masks.tolist()):
        others = [prototypes[c] for c in range(3) if c != mask]
        for kind, negatives in enumerate(([*queue], [*others, *queue])):
            by_similarity = sorted(negatives, key=lambda row, own=prototypes[mask]: -float(torch.dot(own, row)))
            kept = by_similarity[int(len(by_similarity) * share) :]
            positive = torch.exp(torch.dot(pixels[i], prototypes[mask]) / TEMPERATURE)
            denominator = positive + sum(torch.exp(torch.dot(pixels[i], row) / TEMPERATURE) for row in kept)
            weight = 1.0 if kind == 0 else 1.0 / math.log(1.02 + masks.tolist().count(mask) / len(masks))
            losses[kind] = losses[kind] - weight * torch.log(positive / denominator)
            weights[kind] += weight
    expected = losses / weights
    for kind, loss in enumerate((formula_loss, reference_loss)):
        value = loss(pixels, masks, prototypes, queue, TEMPERATURE, exclude_similar=share)
        assert value.item() == pytest.approx(expected[kind].item(), rel=1e-10)
        assert value.item() < loss(pixels, masks, prototypes, queue, TEMPERATURE).item()
        (gradient,) = torch.autograd.grad(value, pixels, retain_graph=True)
        assert torch.isfinite(gradient).all()


def test_the_most_similar_are_marked_rounded_down() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.5, -torch.inf, 0.2], [0.3, 0.3, -0.5, 0.8, 0.0]])
    marked = most_similar(similarity, 0.5)  # half of 4 negatives, half of 5
    assert marked.tolist() == [[False, True, True, False, False], [True, False, False, True, False]]
    assert not most_similar(similarity, 0.1).any()


def test_values_by_hand() -> None:
    pixel, mask = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    prototypes, queue = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[-1.0, 0.0]])
    formula = math.log(1 + math.exp(-4))  # similarities 1 and -1, over a temperature of 0.5
    reference = math.log(1 + math.exp(-2) + math.exp(-4))  # and 0 for the other mask of the batch
    assert formula_loss(pixel, mask, prototypes, queue, 0.5).item() == pytest.approx(formula, rel=1e-5)
    assert reference_loss(pixel, mask, prototypes, queue, 0.5).item() == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("loss", [formula_loss, reference_loss])
def test_no_row_gives_zero_loss_with_a_gradient(loss) -> None:
    pixels = torch.zeros(0, 4, requires_grad=True)
    value = loss(pixels, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.ones(3, 4), 0.5)
    value.backward()
    assert value.item() == 0
    assert pixels.grad is not None


# The five differences between formula and publication


def test_difference_1_the_batch_prototypes_are_negatives_in_reference_alone() -> None:
    pixels, masks, prototypes, queue = _rows()
    is_first = masks == 0
    moved = prototypes.clone()
    moved[1:] = _unit(2, 4, 9)  # other masks of the batch; the positive stays

    def value(loss, columns: torch.Tensor) -> float:
        return loss(pixels[is_first], masks[is_first], columns, queue, TEMPERATURE).item()

    assert value(formula_loss, moved) == value(formula_loss, prototypes)
    assert abs(value(reference_loss, moved) - value(reference_loss, prototypes)) > 1e-3
    # with those prototypes moved into the bank, the formula has the same negatives, B - 1 + K of them
    assert value(reference_loss, prototypes) == pytest.approx(
        formula_loss(
            pixels[is_first], masks[is_first], prototypes, torch.cat([prototypes[1:], queue]), TEMPERATURE
        ).item()
    )


def test_difference_2_pixels_are_weighted_by_the_rarity_of_their_mask_in_reference_alone() -> None:
    rows, masks = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]]), torch.tensor([0, 0, 0, 1])
    prototypes, queue = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.zeros(0, 2)
    each = [math.log(1 + math.exp((0.6 - 1) / 0.5))] * 3 + [math.log(1 + math.exp((0 - 0.8) / 0.5))]
    weights = [1 / math.log(1.02 + 0.75)] * 3 + [1 / math.log(1.02 + 0.25)]
    expected = sum(w * value for w, value in zip(weights, each, strict=True)) / sum(weights)
    assert reference_loss(rows, masks, prototypes, queue, 0.5).item() == pytest.approx(expected, rel=1e-5)
    negative = torch.tensor([[0.0, 1.0]])
    plain = [math.log(1 + math.exp(-1 / 0.5))] * 3 + [math.log(1 + math.exp((1 - 0.8) / 0.5))]
    assert formula_loss(rows, masks, prototypes, negative, 0.5).item() == pytest.approx(sum(plain) / 4, rel=1e-5)


def _views(batch: int = 3, size: tuple[int, int] = (16, 24), grid: tuple[int, int] = (4, 6)):
    """Embeddings on the grid and one rectangle per image, elsewhere in the two views."""
    generator = torch.Generator().manual_seed(5)
    query, key = (torch.randn(batch, 4, *grid, generator=generator) for _ in range(2))
    query_masks, key_masks = (torch.zeros(batch, *size, dtype=torch.int64) for _ in range(2))
    for index in range(batch):
        query_masks[index, index : index + 8, 2:14] = 1
        key_masks[index, 4:14, index : index + 10] = 1
    return query.requires_grad_(), query_masks, key, key_masks


def _cells_of(maps: torch.Tensor) -> torch.Tensor:
    """Return maps (batch, dim, h, w) as cells (batch * h * w, dim)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _contrast(settings: ObjectiveSettings, queue: torch.Tensor, batch: int = 3) -> tuple[ContrastiveTerm, torch.Tensor]:
    query, query_masks, key, key_masks = _views(batch)
    term = contrast_views(query, query_masks, key, key_masks, queue, settings)
    (gradient,) = torch.autograd.grad(term.loss, query)
    return term, gradient


def _slow_views(mode: str, queue: torch.Tensor, resolution: str) -> torch.Tensor:
    """Both stages by loops: prototypes from the key view, rows from the query view, one mask per image."""
    query, query_masks, key, key_masks = _views()
    if resolution == "full":
        query = F.interpolate(query, size=(16, 24), mode="bilinear", align_corners=False)
        key = F.interpolate(key, size=(16, 24), mode="bilinear", align_corners=False)
    step = query_masks.shape[-1] // query.shape[-1]
    prototypes = []
    for index in range(len(key)):
        total = torch.zeros(4)
        for y in range(key.shape[2]):
            for x in range(key.shape[3]):
                cell = key_masks[index, y * step : (y + 1) * step, x * step : (x + 1) * step]
                vector = key[index, :, y, x]
                total = total + cell.float().mean() * vector / vector.norm()
        prototypes.append(total / total.norm())
    rows, masks = [], []
    for index in range(len(query)):
        for y in range(query.shape[2]):
            for x in range(query.shape[3]):
                if query_masks[index, y * step + step // 2, x * step + step // 2] > 0:
                    rows.append(query[index, :, y, x] / query[index, :, y, x].norm())
                    masks.append(index)
    slow = _slow_formula if mode == "formula" else _slow_reference
    return slow(torch.stack(rows), torch.tensor(masks), torch.stack(prototypes).detach(), queue)


@pytest.mark.parametrize("mode", ["formula", "reference"])
@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_difference_3_both_resolutions_equal_the_slow_loop(mode, resolution) -> None:
    queue = _unit(5, 4, 3).float()
    term, _ = _contrast(ObjectiveSettings(mode=mode, resolution=resolution), queue)
    assert term.loss.item() == pytest.approx(_slow_views(mode, queue, resolution).item(), rel=1e-5)


def test_difference_3_full_resolution_has_a_row_for_every_pixel() -> None:
    queue = _unit(5, 4, 3).float()
    _, query_masks, _, _ = _views()
    full, _ = _contrast(ObjectiveSettings(resolution="full"), queue)
    grid, _ = _contrast(ObjectiveSettings(resolution="grid"), queue)
    assert full.num_rows == int((query_masks > 0).sum())
    assert grid.num_rows == int((query_masks[:, 2::4, 2::4] > 0).sum())
    assert full.loss.item() != pytest.approx(grid.loss.item(), rel=1e-4)


@pytest.mark.parametrize("mode", ["formula", "reference"])
@pytest.mark.parametrize("queue_length", [0, 1, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_difference_5_any_batch_and_any_queue(mode, queue_length: int, batch: int) -> None:
    if mode == "formula" and queue_length == 0:
        with pytest.raises(InputError, match=r"queue_length is 0 in formula mode.*use mode reference"):
            ObjectiveSettings(mode="formula", queue_length=0)
        return
    settings = ObjectiveSettings(mode=mode, queue_length=queue_length)
    term, gradient = _contrast(settings, _unit(5, 4, 3).float()[:queue_length], batch)
    assert torch.isfinite(term.loss)
    assert term.prototypes.shape == (batch, 4)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum() > 0) == (batch + queue_length > 1)  # alone, a mask has nothing to be told from
    assert not torch.distributed.is_initialized()


def test_gradient_reaches_the_query_alone() -> None:
    query, query_masks, key, key_masks = _views()
    key.requires_grad_()
    queue = _unit(5, 4, 3).float().requires_grad_()
    term = contrast_views(query, query_masks, key, key_masks, queue.detach(), ObjectiveSettings())
    term.loss.backward()
    assert key.grad is None
    assert not term.prototypes.requires_grad
    assert not term.positive_similarity.requires_grad
    background = query_masks[:, 2::4, 2::4] == 0
    assert query.grad is not None
    assert query.grad.permute(0, 2, 3, 1)[background].abs().sum() == 0


def test_pixels_of_a_mask_missing_in_the_key_view_are_left_out() -> None:
    query, query_masks, key, key_masks = _views()
    queue = _unit(5, 4, 3).float()
    key_masks[1] = 0
    term = contrast_views(query, query_masks, key, key_masks, queue, ObjectiveSettings())
    keep = torch.tensor([0, 2])
    rest = contrast_views(query[keep], query_masks[keep], key[keep], key_masks[keep], queue, ObjectiveSettings())
    assert term.loss.item() == pytest.approx(rest.loss.item(), rel=1e-6)
    assert torch.equal(term.prototypes, rest.prototypes)
    (gradient,) = torch.autograd.grad(term.loss, query)
    assert gradient[1].abs().sum() == 0


@pytest.mark.parametrize("resolution", ["grid", "full"])
def test_no_mask_at_all_gives_zero(resolution) -> None:
    query, query_masks, key, key_masks = _views()
    empty = torch.zeros_like(query_masks)
    for masks, key_side in ((empty, empty), (empty, key_masks), (query_masks, empty)):
        term = contrast_views(query, masks, key, key_side, torch.zeros(0, 4), ObjectiveSettings(resolution=resolution))
        (gradient,) = torch.autograd.grad(term.loss, query)
        assert term.loss.item() == 0
        assert gradient.abs().sum() == 0
        assert term.num_rows == 0
        assert torch.isfinite(term.negative_similarity)


def test_several_masks_in_an_image_are_several_columns() -> None:
    query, query_masks, key, key_masks = _views(1)
    query_masks[0, 12:, 16:] = 2
    key_masks[0, :4, 16:] = 2
    term = contrast_views(query, query_masks, key, key_masks, torch.zeros(0, 4), ObjectiveSettings(queue_length=0))
    assert term.prototypes.shape == (2, 4)
    assert term.loss.item() > 0


@pytest.mark.parametrize("mode", ["formula", "reference"])
def test_whole_masks_as_rows_equal_the_double_loop(mode) -> None:
    query, key, queue = _unit(4, 5, 1) * 3, _unit(4, 5, 2) * 2, _unit(6, 5, 3)
    is_present = torch.tensor([True, False, True, True])
    query.requires_grad_()
    term = contrast_masks(query.float(), key.float(), is_present, queue.float(), ObjectiveSettings(mode=mode))
    slow = _slow_formula if mode == "formula" else _slow_reference
    rows = [row / row.norm() for row in query[is_present]]
    prototypes = F.normalize(key[is_present], dim=1)
    expected = slow(torch.stack(rows), torch.arange(3), prototypes, queue)
    assert term.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(term.prototypes, prototypes.float())
    assert not term.prototypes.requires_grad
    assert term.num_rows == 3
    (gradient,) = torch.autograd.grad(term.loss, query)
    assert torch.equal(gradient.abs().sum(1) > 0, is_present)


def test_whole_masks_leave_similar_negatives_out() -> None:
    query, key, queue = _unit(3, 5, 1).float(), _unit(3, 5, 2).float(), _unit(7, 5, 3).float()
    settings = ObjectiveSettings(mode="formula", exclude_similar=0.3)
    term = contrast_masks(query, key, torch.ones(3, dtype=torch.bool), queue, settings)
    expected = 0.0
    for z, p in zip(query, key, strict=True):
        kept = sorted((row for row in queue), key=lambda row, p=p: float(p @ row))[:5]  # without the 2 most similar
        positive = math.exp(float(z @ p) / 0.5)
        expected -= math.log(positive / (positive + sum(math.exp(float(z @ row) / 0.5) for row in kept))) / 3
    assert term.loss.item() == pytest.approx(expected, rel=1e-5)


def test_no_whole_mask_in_both_views_gives_zero() -> None:
    query = torch.randn(2, 5, requires_grad=True)
    none = torch.zeros(2, dtype=torch.bool)
    term = contrast_masks(query, torch.randn(2, 5), none, torch.zeros(0, 5), ObjectiveSettings())
    term.loss.backward()
    assert (term.loss.item(), term.num_rows) == (0.0, 0)


def test_similarities_equal_the_loop() -> None:
    query, query_masks, key, key_masks = _views()
    queue = _unit(5, 4, 3).float()
    term = contrast_views(query, query_masks, key, key_masks, queue, ObjectiveSettings())
    numbers = torch.where(query_masks > 0, torch.arange(3).view(3, 1, 1), -1)
    cells, masks = select_cells(numbers, torch.arange(3), query.shape[-2:])
    embeddings = F.normalize(_cells_of(query.detach())[cells], dim=1)
    columns = torch.cat([term.prototypes, queue])
    own, others = [], []
    for pixel, mask in zip(embeddings, masks, strict=True):
        for number, column in enumerate(columns):
            (own if number == mask else others).append(float(pixel @ column))
    assert term.positive_similarity.item() == pytest.approx(sum(own) / len(own), abs=1e-5)
    assert term.negative_similarity.item() == pytest.approx(sum(others) / len(others), abs=1e-5)


def test_sampled_cells_are_so_many_of_each_mask_and_differ_between_draws() -> None:
    masks = torch.full((2, 6, 5), -1)
    masks[0, :4], masks[1, 0, :2], masks[1, 3:] = 0, 1, 2
    column, size = torch.tensor([0, 1, -1]), masks.shape[-2:]
    all_cells, all_masks = select_cells(masks, column, size)
    assert torch.bincount(all_masks).tolist() == [20, 2]
    torch.manual_seed(1)
    (first, first_masks), (second, _) = (select_cells(masks, column, size, 3) for _ in range(2))
    assert torch.bincount(first_masks).tolist() == [3, 2]
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(select_cells(masks, column, size, 3)[0], first)
    of_cell = dict(zip(all_cells.tolist(), all_masks.tolist(), strict=True))
    assert [of_cell[cell] for cell in first.tolist()] == first_masks.tolist()
    assert first.tolist() == sorted(set(first.tolist()))


def test_sampling_is_uniform_over_the_pixels_of_a_mask() -> None:
    masks, column = torch.zeros(1, 1, 8, dtype=torch.int64), torch.tensor([0])
    torch.manual_seed(0)
    drawn = torch.cat([select_cells(masks, column, masks.shape[-2:], 2)[0] for _ in range(800)])
    counts = torch.bincount(drawn, minlength=8)
    assert counts.sum() == 1600
    assert (counts - 200).abs().max() < 50  # standard deviation 12


@pytest.mark.parametrize("mode", ["reference", "formula"])
@pytest.mark.parametrize("changes", [{}, {"pixels_per_mask": 7}, {"exclude_similar": 0.5}])
def test_full_resolution_image_by_image_is_that_of_enlarged_maps(mode: str, changes: dict[str, float]) -> None:
    """Loss, prototypes, similarities and gradient; one of the four images has no mask, one has two."""
    query, query_masks, key, key_masks = _views(4)
    query_masks[1], key_masks[1] = 0, 0
    query_masks[2, :3], key_masks[2, 8:] = 2, 2
    queue = _unit(5, 4, 3).float()
    found = []
    for resolution in ("full", "grid"):
        given = query.detach().clone().requires_grad_()
        maps = [given, key]
        if resolution == "grid":
            maps = [F.interpolate(map_, size=(16, 24), mode="bilinear", align_corners=False) for map_ in maps]
        settings = ObjectiveSettings(mode=mode, resolution=resolution, **changes)  # type: ignore[arg-type]
        torch.manual_seed(0)
        term = contrast_views(maps[0], query_masks, maps[1], key_masks, queue, settings)
        term.loss.backward()
        found.append((term, given.grad))
    (ours, our_gradient), (plain, plain_gradient) = found
    assert ours.num_rows == plain.num_rows > 0
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(our_gradient, plain_gradient, rtol=1e-4, atol=1e-7)


def test_one_mask_without_a_bank_has_no_negative_and_is_not_fatal() -> None:
    embedding = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks = torch.zeros(1, 6, 5, dtype=torch.int64)
    masks[0, 1:4, 1:3] = 1
    settings = ObjectiveSettings(queue_length=0)
    term = contrast_views(embedding, masks, embedding.detach(), masks, torch.zeros(0, 4), settings)
    term.loss.backward()
    assert (term.loss.item(), term.num_rows, len(term.prototypes)) == (0.0, 6, 1)
    assert term.negative_similarity.item() == pytest.approx(0.0, abs=1e-6)
    assert embedding.grad is not None
    assert embedding.grad.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, r"temperature is 0.0; it must be positive \(published 0.5\)"),
        ({"temperature": math.nan}, r"temperature is nan"),
        ({"queue_length": -1}, r"queue_length is -1; it must be 0 or more"),
        ({"momentum": 1.5}, r"momentum is 1.5; it must lie in \[0, 1\]"),
        ({"saliency_weight": -1.0}, r"saliency_weight is -1.0"),
        ({"exclude_similar": 1.0}, r"exclude_similar is 1.0; it is a share in \[0, 1\)"),
        ({"pixels_per_mask": -2}, r"pixels_per_mask is -2; it must be 0 \(all\) or more"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ObjectiveSettings(**values)  # type: ignore[arg-type]


def test_defaults_are_the_published_values() -> None:
    settings = ObjectiveSettings()
    assert (settings.mode, settings.temperature, settings.queue_length) == ("reference", 0.5, 128)
    assert (settings.momentum, settings.saliency_weight) == (0.999, 1.0)
