"""The one exception class of densessl, a problem that the user can mend, and the commonest of its rules."""

from collections.abc import Mapping


class InputError(ValueError):
    """Raised for input a user can correct; the message names the thing, the value, the rule and the remedy.

    The command line prints the message without a traceback and exits with status 1.
    """


class MissingInputError(InputError, FileNotFoundError):
    """An `InputError` for a file or folder that is not there; the message says which layout was expected."""


def check_at_least(section: str, settings: object, lowest: Mapping[str, float]) -> None:
    """Raise `InputError` for the first setting, by name, that is below its lowest value or not a number."""
    for name, least in lowest.items():
        value = getattr(settings, name)
        if not value >= least:
            raise InputError(f"{section}.{name} is {value}; it must be at least {least}")
