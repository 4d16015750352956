"""What the stage functions make of arguments from Python: text for paths, and only the words that a setting knows.

`saliency(out="OUT")` is `saliency(out=Path("OUT"))`; the command line checks the same by itself.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from densessl.errors import InputError

Given = ParamSpec("Given")
Result = TypeVar("Result")


def checked_arguments(stage: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return the function with every text that is given for a `Path`, or for a `Path | None`, made a path.

    The function raises `InputError` where a setting that is one of some words, or numbers, is none of them; so it does
    for those in a group of settings, such as `training.schedule`.
    """
    signature = inspect.signature(stage)
    names = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is Path or set(get_args(parameter.annotation)) == {Path, type(None)}
    ]

    @functools.wraps(stage)
    def with_paths(*arguments: Given.args, **settings: Given.kwargs) -> Result:
        given = signature.bind(*arguments, **settings)
        for name in names:
            if isinstance(given.arguments.get(name), str):
                given.arguments[name] = Path(given.arguments[name])
        for name, annotation, value in _flat(given.arguments, signature):
            options = _options(annotation)
            if options and value not in options:
                accepted = ", ".join(str(option) for option in options if option is not None)
                raise InputError(f"{name} is {value!r}; it must be one of {accepted}")
        return stage(*given.args, **given.kwargs)

    return with_paths


def _flat(arguments: dict[str, Any], signature: inspect.Signature) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, type and value of what is given, and of every field of a group of settings that is given."""
    waiting = [(name, signature.parameters[name].annotation, value) for name, value in arguments.items()]
    while waiting:
        name, annotation, value = waiting.pop(0)
        yield name, annotation, value
        if is_dataclass(value) and type(value) in (annotation, *get_args(annotation)):
            waiting += [(f"{name}.{item.name}", item.type, getattr(value, item.name)) for item in fields(value)]


def _options(annotation: Any) -> tuple[Any, ...]:
    """Return what a `Literal`, or a `Literal | None`, allows; nothing for other types."""
    members = [item for item in get_args(annotation) if item is not type(None)]
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if len(members) == 1 and get_origin(members[0]) is Literal:
        return (*get_args(members[0]), None)
    return ()
