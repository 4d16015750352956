"""The flag `--classes 0,8,10` as a tuple of class indices."""

import operator

from densessl.errors import InputError

ClassSelection = list[int] | tuple[int, ...] | str | int | None
"""Class indices as a list, as text such as "0,8,10", or None for all."""


def parse_classes(classes: ClassSelection) -> tuple[int, ...] | None:
    """Turn a class selection into a tuple of indices; raises `InputError` for what is not one."""
    if classes is None:
        return None
    words = str(classes).split(",") if isinstance(classes, str | int) else list(classes)
    try:
        return tuple(int(word) if isinstance(word, str) else operator.index(word) for word in words)
    except (TypeError, ValueError) as error:
        raise InputError(f"classes {classes!r} is not a list of class indices such as 0,8,10 ({error})") from error
