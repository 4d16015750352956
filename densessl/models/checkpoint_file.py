"""Reading of checkpoint files by strangers: tensors and plain containers only, no pickled code is run."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from densessl.errors import InputError, MissingInputError

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar", ".bin")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)


class _Ignored:
    """Stands for a harmless object in a checkpoint (parsed options, a numpy number) that is not needed.

    The file's bytes reach only the two methods below, which drop them.
    """

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Published checkpoints hold the options and metrics of their training run. The names are mapped to the
# stand-in, so that neither argparse nor numpy builds anything from the file.
_IGNORED_NAMES = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Int64DType",
)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file into memory; no code in it is run, and half-precision tensors become float32.

    Args:
        path: a .safetensors file, or a .pth, .pt, .ckpt, .tar or .bin file written by `torch.save`.

    Returns:
        the file's outermost dictionary: tensors by name, or containers of them with training state beside.

    Raises:
        MissingInputError: no such file.
        InputError: an unknown suffix, a damaged file, a file that could only be read by running pickled code,
            or one that does not hold a dictionary.
    """
    if path.is_dir():
        raise InputError(f"checkpoint {path} is a folder; give the file in it that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise MissingInputError(f"no checkpoint file {path}; expected a file ending in {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    elif path.suffix in TORCH_SUFFIXES:
        content = _read_torch(path)
    else:
        raise InputError(f"checkpoint {path} ends in {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(
            f"checkpoint {path} holds a {type(content).__name__}, not a dictionary by tensor name; save the "
            "network's state_dict() instead"
        )
    try:
        return _to_float32(content)
    except RecursionError as error:
        raise InputError(_damaged_message(path, "its containers are nested without end")) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(_damaged_message(path, _last_words(error))) from error


def _read_torch(path: Path) -> Any:
    stand_ins = [(_Ignored, name) for name in _IGNORED_NAMES]
    try:
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise InputError(_pickle_message(path, foreign.group(1))) from error
        raise InputError(_damaged_message(path, _last_words(error))) from error
    except Exception as error:  # a damaged file makes the reader fail in any of its own ways
        if "TorchScript" in str(error):
            raise InputError(
                f"{path} is a TorchScript archive, which holds code; save the state_dict() of the scripted "
                "module with safetensors or torch.save and load that file"
            ) from error
        raise InputError(_damaged_message(path, _last_words(error))) from error


def _pickle_message(path: Path, name: str) -> str:
    return (
        f"{path} holds a pickled Python object ({name}), and reading it could run code from the file; where "
        "you trust it, load it in a separate environment with torch.load(..., weights_only=False), write its "
        "dictionary of tensors with safetensors.torch.save_file or torch.save, and give that file instead"
    )


def _damaged_message(path: Path, detail: str) -> str:
    return f"{path} is not a readable checkpoint, or it is cut off ({detail}); download or export it again"


def _last_words(error: Exception) -> str:
    """Return what the reader said of the file itself, without torch's advice to switch its protection off."""
    text = str(error).split("WeightsUnpickler error:")[-1].split("Check the documentation")[0]
    return " ".join(text.split())[:200] or type(error).__name__


def _to_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in {torch.float16, torch.bfloat16} else value
    if isinstance(value, dict):
        return {key: _to_float32(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_float32(item) for item in value]
    return value
