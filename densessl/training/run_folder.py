"""The folder of a run: resolved configuration, record of what ran, metrics, weights."""

import platform
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from densessl.errors import InputError, MissingInputError
from densessl.files import read_json, write_json, write_text
from densessl.models.mask_contrast_model import MaskContrastModel, ModelSettings, build_model
from densessl.models.network_file import load_network, save_network
from densessl.objectives.settings import Method

_HEADER_KEY = "model_settings"
_PACKAGES = (
    "densessl",
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "albumentations",
    "faiss-cpu",
    "opencv-python-headless",
    "numpy",
)


def plain(value: Any) -> Any:
    """Turn settings (dataclasses, paths, tuples) into what YAML and JSON hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Write the resolved configuration to `run/config.yaml`, in the form that `pretrain --config` reads."""
    write_text(run / "config.yaml", yaml.safe_dump(plain(config), sort_keys=False, width=110))


def read_config(run: Path) -> dict[str, Any]:
    """Read `run/config.yaml`; raises `MissingInputError` where the folder is not a run."""
    path = run / "config.yaml"
    if not path.is_file():
        raise MissingInputError(f"{run} is not a run folder: no {path.name} in it; expected the --out of `pretrain`")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def run_method(run: Path) -> Method:
    """Return the method by which a run was pretrained; raises `MissingInputError` where the folder is not a run."""
    objective = read_config(run).get("objective") or {}
    return "dino" if objective.get("method") == "dino" else "mask_contrast"


def check_same_config(run: Path, config: dict[str, Any], free: set[str], defaults: dict[str, Any]) -> None:
    """Refuse to resume a run under another configuration; keys in `free` ("section.name") may differ.

    A setting that the run's version of densessl did not have counts as having been at its default in `defaults`.

    Raises:
        InputError: names each difference with both values.
    """
    old, new = {**_flatten(plain(defaults)), **_flatten(read_config(run))}, _flatten(plain(config))
    different = [
        f"{key}: {old.get(key)!r} in the run, {new.get(key)!r} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in free
    ]
    if different:
        raise InputError(
            f"cannot resume {run} with another configuration ({'; '.join(different)}); repeat the command with the "
            "run's own values, or start a new run in another folder"
        )


def record_run(run: Path, **entries: Any) -> None:
    """Merge entries into `run/run.json`."""
    write_json(run / "run.json", {**read_run_record(run), **plain(entries)})


def read_run_record(run: Path) -> dict[str, Any]:
    """Read `run/run.json`, the entries of `record_run`; none where there is no such file."""
    path = run / "run.json"
    return read_json(path, "the record of a run") if path.is_file() else {}


def environment_record(device: torch.device) -> dict[str, Any]:
    """Return what the numbers of a run depend on: command, commit, versions, hardware, start time (UTC)."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    hardware = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name(),
        "cores": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    return {
        "command": "python -m densessl " + shlex.join(sys.argv[1:]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "versions": versions,
        "hardware": hardware,
    }


def save_weights(path: Path, tensors: dict[str, torch.Tensor], settings: ModelSettings) -> None:
    """Write a network's state dictionary as safetensors; the file carries the settings that rebuild the network."""
    save_network(path, tensors, _HEADER_KEY, plain(settings))


def load_weights(path: Path) -> tuple[MaskContrastModel, ModelSettings]:
    """Rebuild the network of a file written by `save_weights`, in evaluation mode.

    Raises:
        MissingInputError: no such file.
        InputError: not a file of that kind, or weights of another architecture.
    """
    origin = "final.safetensors of a finished densessl run"
    tensors, header = load_network(path, _HEADER_KEY, kind="weights", origin=origin)
    try:
        settings = model_settings(header)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the header of weights {path} does not hold the settings of a network ({error}); expected {origin}, "
            "written by this version"
        ) from error
    return rebuild(settings, tensors, str(path)), settings


def load_run_model(run: Path, which: str = "final") -> tuple[MaskContrastModel, ModelSettings]:
    """Load the network of a run, in evaluation mode.

    Args:
        run: the --out of `pretrain`.
        which: "final" (after training) or "initial" (before the first step).
    """
    if run_method(run) == "dino":
        raise InputError(
            f"run {run} was pretrained by dino and holds an encoder alone, no embedding; give it as --encoder, which "
            "`cluster`, `benchmark`, `linear`, `knn` and `retrieve` take, or begin another run with "
            f"--model.weights {run / 'final.safetensors'}"
        )
    path = run / f"{which}.safetensors"
    if not path.is_file():
        raise MissingInputError(
            f"run {run} has no {path.name}; its training did not finish, go on with `pretrain --out {run} "
            "--resume true`"
        )
    return load_weights(path)


def rebuild(settings: ModelSettings, tensors: dict[str, torch.Tensor], source: str) -> MaskContrastModel:
    """Build the network of these settings and load its tensors strictly; `source` names them in an error."""
    model = build_model(settings)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{source} holds another architecture than {settings.encoder}: {error}") from error
    return model.eval()


def model_settings(values: dict[str, Any]) -> ModelSettings:
    """Rebuild `ModelSettings` from its plain form; the initial weights and downloads are not asked for again."""
    return ModelSettings(
        **{
            **values,
            "frozen": tuple(values["frozen"]),
            "weights": None,
            "whole_network": False,
            "pretrained": False,
        }
    )


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _commit() -> str | None:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "CPU"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"
