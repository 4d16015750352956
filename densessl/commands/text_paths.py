"""Paths as text: the stage functions take `saliency(out="OUT")` as they take `saliency(out=Path("OUT"))`."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar, get_args

Given = ParamSpec("Given")
Result = TypeVar("Result")


def text_paths(stage: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return the function with every text that is given for a `Path`, or for a `Path | None`, made a path."""
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
        return stage(*given.args, **given.kwargs)

    return with_paths
