"""Training settings: the published schedule, and ranges."""

import math
from pathlib import Path

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
        ("batch_size", -1, 0),
        ("accumulate", 0, 1),
        ("learning_rate", -0.1, 0),
        ("learning_rate", math.nan, 0),
        ("num_workers", -2, -1),
        ("keep_checkpoints", 0, 1),
        ("log_every", 0, 1),
        ("checkpoint_every", -5, 0),
        ("cache_gb", -1, 0),
        ("cache_gb", math.nan, 0),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: float, lowest: int) -> None:
    with pytest.raises(InputError, match=rf"training.{name} is {value}; it must be at least {lowest}"):
        TrainingSettings(**{name: value})  # type: ignore[arg-type]


def test_a_folder_for_the_cache_wants_a_size() -> None:
    with pytest.raises(InputError, match=r"training.cache is fast, but training.cache_gb is 0; say how many gigabytes"):
        TrainingSettings(cache=Path("fast"))
    assert TrainingSettings(cache=Path("fast"), cache_gb=0.5).cache == Path("fast")


def test_sharded_parameters_are_contiguous() -> None:
    with pytest.raises(InputError, match=r"memory_format is channels_last, but training.strategy is fsdp.*use memory"):
        TrainingSettings(strategy="fsdp", memory_format="channels_last")
