"""The one exception class of densessl: a problem that the user can mend."""


class InputError(ValueError):
    """Raised for input a user can correct; the message names the thing, the value, the rule and the remedy.

    The command line prints the message without a traceback and exits with status 1.
    """


class MissingInputError(InputError, FileNotFoundError):
    """An `InputError` for a file or folder that is not there; the message says which layout was expected."""
