"""Which settings are not at their default."""

from dataclasses import dataclass, field

from densessl.changed_settings import changed_settings


@dataclass(frozen=True)
class _Inner:
    size_px: int = 4


@dataclass(frozen=True)
class _Outer:
    inner: _Inner = field(default_factory=_Inner)
    seed: int = 0
    name: str | None = None


def test_nothing_is_changed_at_first() -> None:
    assert changed_settings(_Outer(), _Outer()) == {}


def test_the_fields_that_somebody_chose_and_no_others() -> None:
    assert changed_settings(_Outer(seed=3, name="a"), _Outer()) == {"seed": 3, "name": "a"}


def test_a_group_is_given_whole() -> None:
    assert changed_settings(_Outer(inner=_Inner(8)), _Outer()) == {"inner": _Inner(8)}
