"""Training settings: the published schedule, and ranges."""

import math

import pytest

from densessl.errors import InputError
from densessl.training.settings import TrainingSettings


def test_defaults_are_the_published_schedule() -> None:
    settings = TrainingSettings()
    assert (settings.optimizer, settings.learning_rate, settings.momentum) == ("sgd", 0.004, 0.9)
    assert (settings.weight_decay, settings.schedule, settings.warmup_steps) == (1e-4, "poly", 0)
    assert (settings.epochs, settings.batch_size) == (40, 64)


@pytest.mark.parametrize(
    ("name", "value", "lowest"),
    [
        ("epochs", -1, 0),
        ("batch_size", 0, 1),
        ("learning_rate", -0.1, 0),
        ("learning_rate", math.nan, 0),
        ("num_workers", -2, -1),
        ("keep_checkpoints", 0, 1),
        ("log_every", 0, 1),
        ("checkpoint_every", -5, 0),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: float, lowest: int) -> None:
    with pytest.raises(InputError, match=rf"training.{name} is {value}; it must be at least {lowest}"):
        TrainingSettings(**{name: value})  # type: ignore[arg-type]
