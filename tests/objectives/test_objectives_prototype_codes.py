"""Codes by Sinkhorn-Knopp and the loss of predicting them: slow loops, marginals, parts of a batch."""

import math

import pytest
import torch
from torch.nn import functional as F

from densessl.objectives.prototype_codes import prototype_loss, sinkhorn_codes
from densessl.objectives.settings import ObjectiveSettings
from densessl.objectives.whole_batch import WholeBatch

SETTINGS = ObjectiveSettings(swav_weight=1.0, sinkhorn_epsilon=0.3, sinkhorn_iterations=4, swav_temperature=0.2)


def _unit(num: int, seed: int, dim: int = 5) -> torch.Tensor:
    rows = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=1)


def _slow_codes(scores: torch.Tensor, epsilon: float, num_iterations: int) -> list[list[float]]:
    """Sinkhorn-Knopp as the paper writes it: a transport plan of total mass 1, prototypes first."""
    num, num_prototypes = scores.shape
    plan = [[math.exp(float(scores[i, k]) / epsilon) for k in range(num_prototypes)] for i in range(num)]
    for _ in range(num_iterations):
        for k in range(num_prototypes):
            mass = sum(plan[i][k] for i in range(num))
            for i in range(num):
                plan[i][k] /= mass * num_prototypes
        for i in range(num):
            mass = sum(plan[i])
            plan[i] = [value / (mass * num) for value in plan[i]]
    return [[value * num for value in row] for row in plan]


@pytest.mark.parametrize(("num", "num_prototypes", "num_iterations"), [(7, 3, 3), (2, 6, 1), (1, 4, 2), (5, 5, 10)])
def test_codes_equal_the_slow_loop(num: int, num_prototypes: int, num_iterations: int) -> None:
    scores = _unit(num, 0) @ _unit(num_prototypes, 1).T
    found = sinkhorn_codes(scores, 0.2, num_iterations)
    expected = torch.tensor(_slow_codes(scores, 0.2, num_iterations), dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("num", "num_prototypes"), [(12, 4), (5, 9), (30, 30)])
def test_codes_are_doubly_normalised(num: int, num_prototypes: int) -> None:
    """Each row sums to 1 after any iteration; each prototype receives the same share after many."""
    scores = _unit(num, 0) @ _unit(num_prototypes, 1).T
    few, many = (sinkhorn_codes(scores, 0.1, iterations) for iterations in (1, 2000))
    for codes in (few, many):
        torch.testing.assert_close(codes.sum(1), torch.ones(num, dtype=torch.float64))
    share = torch.full((num_prototypes,), num / num_prototypes, dtype=torch.float64)
    torch.testing.assert_close(many.sum(0), share, rtol=1e-3, atol=1e-3)


def test_a_small_epsilon_overflows_nothing() -> None:
    codes = sinkhorn_codes((_unit(6, 0) @ _unit(3, 1).T).float(), 1e-4, 3)
    assert bool(torch.isfinite(codes).all())
    torch.testing.assert_close(codes.sum(1), torch.ones(6))


def test_the_loss_by_a_slow_loop() -> None:
    query, key, prototypes, bank = _unit(4, 0), _unit(4, 1), _unit(3, 2), _unit(6, 3)
    query.requires_grad_()
    prototypes.requires_grad_()
    codes = _slow_codes(torch.cat([key, bank]) @ prototypes.detach().T, 0.3, 4)
    total = torch.zeros((), dtype=torch.float64)
    for m in range(4):
        exponentials = [torch.exp(query[m] @ prototypes[k] / 0.2) for k in range(3)]
        for k in range(3):
            total = total - codes[m][k] * torch.log(exponentials[k] / sum(exponentials))
    found = prototype_loss(query, key, prototypes, bank, SETTINGS)
    torch.testing.assert_close(found, total / 4)
    wanted = torch.autograd.grad(total / 4, [query, prototypes])
    for first, second in zip(torch.autograd.grad(found, [query, prototypes]), wanted, strict=True):
        torch.testing.assert_close(first, second)


def test_gradient_flows_into_predictions_alone() -> None:
    query, key, prototypes = (_unit(num, num).requires_grad_() for num in (4, 4, 3))
    prototype_loss(query, key, prototypes, _unit(0, 0), SETTINGS).backward()
    assert key.grad is None
    assert query.grad is not None
    assert torch.count_nonzero(prototypes.grad) > 0
    fixed = [query.detach(), key.detach()]
    assert torch.autograd.gradcheck(
        lambda rows: prototype_loss(rows, fixed[1], prototypes.detach(), _unit(2, 9), SETTINGS),
        fixed[0].requires_grad_(),
    )


def test_no_mask_is_no_loss_with_gradient() -> None:
    """Distributed wrappers wait for the gradient of every parameter."""
    prototypes = _unit(3, 0).requires_grad_()
    loss = prototype_loss(_unit(0, 0), _unit(0, 0), prototypes, _unit(5, 1), SETTINGS)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(prototypes.grad, torch.zeros(3, 5, dtype=torch.float64))


def test_parts_are_coded_as_the_whole() -> None:
    query, key, prototypes, bank = _unit(5, 0), _unit(5, 1), _unit(3, 2), _unit(4, 3)
    whole = prototype_loss(query, key, prototypes, bank, SETTINGS)
    totals: list[torch.Tensor] = []

    def loss_of(part: slice, first: int, *, is_whole: bool) -> torch.Tensor:
        def total(value: torch.Tensor) -> torch.Tensor:
            totals.append(value)
            return value

        parts = WholeBatch(lambda rows: (key, first), total)
        return prototype_loss(query[part], key[part], prototypes, bank, SETTINGS, parts, is_whole=is_whole)

    local = [loss_of(part, first, is_whole=False) for part, first in ((slice(0, 2), 0), (slice(2, 5), 2))]
    torch.testing.assert_close((2 * local[0] + 3 * local[1]) / 5, whole)
    assert not totals
    for part, first in ((slice(0, 2), 0), (slice(2, 5), 2)):
        loss_of(part, first, is_whole=True)
    torch.testing.assert_close(sum(totals) / 5, whole)
