"""Which settings somebody chose: the commands refuse those that they would pass over."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def changed_settings(given: Any, default: Any) -> Mapping[str, Any]:
    """Return the fields, by name, of a dataclass of settings that are not as in `default`, one of the same class."""
    names = [item.name for item in fields(given)]
    return {name: getattr(given, name) for name in names if getattr(given, name) != getattr(default, name)}
