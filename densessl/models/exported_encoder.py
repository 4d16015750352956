"""Encoders from TorchScript (.pt, .ts) and torch.export (.pt2) files, which are programs and not data.

Neither format can be read as data alone. A TorchScript archive holds code that `torch.jit.load` compiles and that may
read and write files. `torch.export.load` unpickles weights, constants and sample inputs that the file marks as pickled,
without `weights_only`, and hands expressions of the file to `sympify` and `exec`; torch offers no other way (as of
2.14). So both are opened only where the caller says that he trusts the file, and nothing of torch touches it before.
"""

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from densessl.errors import InputError, MissingInputError
from densessl.files import file_sha256
from densessl.models.dense_encoder import DenseEncoder

TORCHSCRIPT_SUFFIXES = (".pt", ".ts", ".torchscript")
EXPORT_SUFFIXES = (".pt2",)
_SUPERVISION = "unknown: the file does not say"


def torchscript_encoder(path: Path, device: torch.device, *, is_trusted: bool) -> DenseEncoder:
    """Load a scripted or traced module whose `forward` is the feature function.

    Raises:
        MissingInputError: no such file.
        InputError: a file that is not trusted, no TorchScript, or one that cannot be loaded.
    """
    _check(path, "TorchScript", is_trusted=is_trusted)
    if not _members(path, "constants.pkl", "code/"):
        raise InputError(
            f"{path} holds no TorchScript; a checkpoint of weights is given as weights FILE, with the network's timm "
            "name as encoder"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of the format
        try:
            module = torch.jit.load(str(path), map_location=device).eval()
        except RuntimeError as error:
            raise InputError(f"{path} cannot be loaded ({_first_line(error)}); script or trace it again") from error
    function = _Explained(module, path.name)
    return DenseEncoder(function, f"TorchScript {path.name}", file_sha256(path), _SUPERVISION)


def exported_encoder(path: Path, device: torch.device, *, is_trusted: bool) -> DenseEncoder:
    """Load a program that `torch.export.save` wrote, of one input: the images.

    A program exported for a fixed number of images is called with that many at a time.

    Raises:
        MissingInputError: no such file.
        InputError: a file that is not trusted, no exported program, or one of other inputs.
    """
    _check(path, "torch.export", is_trusted=is_trusted)
    try:
        program = torch.export.load(str(path))
        module = program.module().to(device)
    except Exception as error:  # a damaged file makes the reader fail in any of its own ways
        raise InputError(
            f"{path} cannot be loaded ({_first_line(error)}); export it again with torch {torch.__version__}"
        ) from error
    shape = _input_shape(program, path)
    function = ExportedFunction(_Explained(module, path.name), shape, path.name)
    return DenseEncoder(function, f"torch.export {path.name}", file_sha256(path), _SUPERVISION)


@dataclass(frozen=True)
class ExportedFunction:
    """Calls a program with as many images as it was exported for, and says which size it wants.

    shape: of its input, (batch, 3, height, width); None where any length will do.
    """

    function: Callable[[torch.Tensor], Any]
    shape: tuple[int | None, ...]
    name: str

    def __call__(self, images: torch.Tensor) -> Any:
        wanted, given = self.shape[1:], tuple(images.shape[1:])
        if any(side not in (None, found) for side, found in zip(wanted, given, strict=True)):
            text = " x ".join("any" if side is None else str(side) for side in wanted)
            raise InputError(
                f"encoder {self.name} was exported for images of {text} (channels x height x width), got "
                f"{' x '.join(map(str, given))}; give that image size, or export it with dynamic shapes"
            )
        size = self.shape[0]
        if size is None or size == len(images):
            return self.function(images)
        parts = [self._part(images[start : start + size], size) for start in range(0, len(images), size)]
        return torch.cat(parts) if all(isinstance(part, torch.Tensor) for part in parts) else parts[0]

    def _part(self, images: torch.Tensor, size: int) -> Any:
        missing = size - len(images)
        if missing == 0:
            return self.function(images)
        filled = self.function(torch.cat([images, images.new_zeros(missing, *images.shape[1:])]))
        return filled[: len(images)] if isinstance(filled, torch.Tensor) else filled


@dataclass(frozen=True)
class _Explained:
    """Calls a module; what torch raises in it becomes an `InputError` that names the images' shape."""

    module: Callable[[torch.Tensor], Any]
    name: str

    def __call__(self, images: torch.Tensor) -> Any:
        try:
            return self.module(images)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"encoder {self.name} fails on images {tuple(images.shape)} ({_last_line(error)}); give the image size "
                "that it was traced or exported for, or make it again with dynamic shapes"
            ) from error


def _check(path: Path, kind: str, *, is_trusted: bool) -> None:
    if not path.is_file():
        raise MissingInputError(f"no encoder file {path}; expected one of {kind}")
    if not is_trusted:
        raise InputError(
            f"{path} is a {kind} file, which is a program: loading it can run code that its author chose, and torch "
            "has no safe way to read it; where you trust its author, say so (trust_file true), else ask for the "
            "weights as safetensors and give the network's timm name as encoder, or write module:function around code "
            "of your own"
        )


def _members(path: Path, *endings: str) -> bool:
    """Say whether a zip archive has, below its one folder, entries of these beginnings."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return False
    return all(any(name.startswith(ending) for name in names) for ending in endings)


def _input_shape(program: torch.export.ExportedProgram, path: Path) -> tuple[int | None, ...]:
    inputs = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    value = values.get(str(inputs[0])) if len(inputs) == 1 else None
    if not isinstance(value, torch.Tensor) or value.ndim != 4:
        raise InputError(
            f"{path} takes {len(inputs)} inputs {inputs}; an encoder takes one, images (batch, 3, height, width): "
            "export a module with that forward"
        )
    return tuple(side if isinstance(side, int) else None for side in value.shape)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
