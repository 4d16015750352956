"""A network in one file: its tensors as safetensors, and a header of plain JSON that says how to rebuild it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from densessl.errors import InputError, MissingInputError
from densessl.files import write_bytes


def save_network(path: Path, tensors: dict[str, torch.Tensor], key: str, header: dict[str, Any]) -> None:
    """Write the state dictionary of a network, and `header` under the name `key`."""
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {key: json.dumps(header)}  # one entry: the order of several is not fixed
    write_bytes(path, save(stored, metadata=metadata))


def load_network(path: Path, key: str, *, kind: str, origin: str) -> tuple[dict[str, torch.Tensor], Any]:
    """Read the tensors by name and the header of a file, which may come from anywhere.

    Args:
        path: a file written by `save_network`.
        key: the name of its header.
        kind: what the file is, in an error: "weights".
        origin: where such a file comes from: "final.safetensors of a finished densessl run".

    Returns:
        The tensors, and the header as JSON gives it, unchecked.

    Raises:
        MissingInputError: no such file.
        InputError: no safetensors file, one without that header, or a header that is no JSON.
    """
    if not path.is_file():
        raise MissingInputError(f"no {kind} {path}; expected {origin}")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{kind} {path} cannot be read ({error}); expected {origin}") from error
    if key not in metadata:
        raise InputError(f"{path} lacks the header {key} that rebuilds its network; expected {origin}")
    try:
        return tensors, json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise InputError(f"the header of {kind} {path} is no JSON ({error}); get or train it anew") from error


def fill_network(network: nn.Module, tensors: dict[str, torch.Tensor], path: Path, kind: str) -> None:
    """Give a network the tensors of a file; `kind` is what the network is, in an error: "a patch network".

    Raises:
        InputError: tensors of another network; how many differ, and one of them, stand in the error.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        shapes = [{name: value.shape for name, value in some.items()} for some in (network.state_dict(), tensors)]
        different = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
        example = f", such as {different[0]}" if different else ""
        raise InputError(
            f"{path} holds other tensors than {kind}: {len(different)} are missing, left over or of another "
            f"shape{example}; get or train it anew"
        ) from error
