"""Learning-rate schedules, by hand."""

import itertools
import math

import pytest

from densessl.training.schedule import learning_rate_factor


def _factors(schedule: str, steps_per_epoch: int, epochs: int, warmup_steps: int = 0) -> list[float]:
    return [
        learning_rate_factor(
            schedule,  # type: ignore[arg-type]
            step,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            warmup_steps=warmup_steps,
        )
        for step in range(steps_per_epoch * epochs)
    ]


def test_poly_steps_down_after_each_epoch() -> None:
    assert _factors("poly", 2, 4) == pytest.approx(
        [1, 1, 0.75**0.9, 0.75**0.9, 0.5**0.9, 0.5**0.9, 0.25**0.9, 0.25**0.9]
    )
    published = learning_rate_factor("poly", 39 * 165, steps_per_epoch=165, epochs=40)
    assert 0.004 * published == pytest.approx(0.004 * (1 / 40) ** 0.9)


def test_cosine_falls_every_step() -> None:
    factors = _factors("cosine", 2, 2)
    assert factors == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert all(later < earlier for earlier, later in itertools.pairwise(factors))


def test_steps_down_where_the_published_schedule_does() -> None:
    """After 60,000 and 86,666 of 90,000 steps."""
    factors = _factors("step", 90, 1)
    assert factors == pytest.approx([1.0] * 60 + [0.1] * 27 + [0.01] * 3)


def test_constant_is_one() -> None:
    assert _factors("constant", 3, 2) == [1.0] * 6


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_warm_up_rises_linearly_and_multiplies(schedule: str) -> None:
    plain, warmed = _factors(schedule, 2, 4), _factors(schedule, 2, 4, warmup_steps=4)
    ramp = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert warmed == pytest.approx([factor * up for factor, up in zip(plain, ramp, strict=True)])


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_factors_lie_in_0_1(schedule: str) -> None:
    assert all(0 < factor <= 1 for factor in _factors(schedule, 3, 5, warmup_steps=2))
