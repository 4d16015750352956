"""What the stage functions make of arguments from Python: text for paths, and only the words that a setting knows.

`saliency(out="OUT")` is `saliency(out=Path("OUT"))`; the command line checks the same by itself.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from densessl.errors import InputError

Given = ParamSpec("Given")
Result = TypeVar("Result")


def text_paths(stage: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return the function with every text that is given for a `Path`, or for a `Path | None`, made a path.

    The function raises `InputError` where a setting that is one of some words, or numbers, is none of them.
    """
    signature = inspect.signature(stage)
    names = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is Path or set(get_args(parameter.annotation)) == {Path, type(None)}
    ]
    choices = {
        name: options for name, parameter in signature.parameters.items() if (options := _options(parameter.annotation))
    }

    @functools.wraps(stage)
    def with_paths(*arguments: Given.args, **settings: Given.kwargs) -> Result:
        given = signature.bind(*arguments, **settings)
        for name in names:
            if isinstance(given.arguments.get(name), str):
                given.arguments[name] = Path(given.arguments[name])
        for name, options in choices.items():
            if name in given.arguments and (value := given.arguments[name]) not in options:
                accepted = ", ".join(str(option) for option in options if option is not None)
                raise InputError(f"{name} is {value!r}; it must be one of {accepted}")
        return stage(*given.args, **given.kwargs)

    return with_paths


def _options(annotation: Any) -> tuple[Any, ...]:
    """Return what a `Literal`, or a `Literal | None`, allows; nothing for other types."""
    members = [item for item in get_args(annotation) if item is not type(None)]
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if len(members) == 1 and get_origin(members[0]) is Literal:
        return (*get_args(members[0]), None)
    return ()
