"""Encoders that are Python functions: `module:function` on the command line, any callable in Python."""

import functools
import hashlib
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from densessl.errors import InputError
from densessl.models.dense_encoder import DenseEncoder, state_sha256

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SUPERVISION = "unknown: a Python function does not say which labels trained what it computes with"


def is_callable_name(text: str) -> bool:
    """Say whether a text has the form `module:function`."""
    return _NAME.fullmatch(text) is not None


def named_encoder(text: str, device: torch.device) -> DenseEncoder:
    """Import `module:function` and take the function as the feature function.

    The module must be importable; `python -m densessl` finds those of the current folder.

    Raises:
        InputError: no such module or attribute, or it cannot be called.
    """
    module_name, _, path = text.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"encoder {text}: no module {error.name!r}; run from the folder that holds it, or add that to PYTHONPATH"
        ) from error
    try:
        function = functools.reduce(getattr, path.split("."), module)
    except AttributeError as error:
        raise InputError(f"encoder {text}: {error}; write module:function") from error
    return callable_encoder(function, device, name=text)  # type: ignore[arg-type]


def callable_encoder(function: Callable[[torch.Tensor], Any], device: torch.device, name: str = "") -> DenseEncoder:
    """Take a callable as the feature function; a network is put into evaluation mode on the device.

    Its fingerprint is that of the source of its module, and of the state of a network. It does not see what a function
    reads elsewhere (files, other modules): a function that changed so looks the same. None where there is no source.

    Raises:
        InputError: it cannot be called.
    """
    shown = name or str(getattr(function, "__qualname__", type(function).__qualname__))
    if not callable(function):
        raise InputError(f"encoder {shown} is a {type(function).__name__}, which cannot be called; give a function")
    digest = _source_sha256(function)
    if isinstance(function, nn.Module):
        if digest is not None:
            digest = hashlib.sha256(f"{digest}{function!r}{state_sha256(function)}".encode()).hexdigest()
        function.eval().to(device)
    return DenseEncoder(function, f"Python callable {shown}", digest, _SUPERVISION)


def _source_sha256(function: Callable[[torch.Tensor], Any]) -> str | None:
    """Return the SHA-256 of the source of the module that a callable, or its class, is defined in.

    What a partial, a closure or an object holds would not be seen, so these have none.
    """
    is_plain = inspect.isfunction(function) and function.__closure__ is None
    if not is_plain and not isinstance(function, nn.Module):
        return None
    definition: Any = function if is_plain else type(function)
    try:
        module = inspect.getmodule(definition)
        source = inspect.getsource(definition if module is None or module.__name__ == "__main__" else module)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(f"{definition.__qualname__}\n{source}".encode()).hexdigest()
