"""The rule that most settings share."""

from types import SimpleNamespace

import pytest

from densessl.errors import InputError, check_at_least


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_setting_below_its_lowest_value_is_told(value: float) -> None:
    with pytest.raises(InputError, match=rf"^training.epochs is {value}; it must be at least 1$"):
        check_at_least("training", SimpleNamespace(epochs=value, batch_size=1), {"batch_size": 1, "epochs": 1})


def test_lowest_values_are_allowed() -> None:
    settings = SimpleNamespace(epochs=1, num_workers=-1)
    assert check_at_least("training", settings, {"epochs": 1, "num_workers": -1}) is None  # type: ignore[func-returns-value]
