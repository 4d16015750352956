"""Which shipped configuration a run was made with, told by its settings and not by whoever measures it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from densessl.training.run_folder import read_config

CONFIGS = Path(__file__).parents[1] / "configs"
_FREE = {"seed", "num_workers", "log_every", "checkpoint_every", "keep_checkpoints"}
"""Settings that make no other recipe."""


def config_of(run: Path, *but_for: str) -> str:
    """Return the name of the configuration in `configs/` whose settings a run has, whatever its seed and its paths.

    A setting that the configuration leaves open (null) may have any value, and so may the sections `but_for`. Raises
    `SystemExit` where none agrees, with the settings in which the nearest one differs.
    """
    given = read_config(run)
    differences = {
        name: [one for one in _differences(wanted, given, "") if one.split(".")[0] not in but_for]
        for name, wanted in _shipped().items()
    }
    nearest = min(differences, key=lambda name: len(differences[name]))
    if differences[nearest]:
        raise SystemExit(
            f"run {run} has the settings of no configuration in {CONFIGS.name}/; {nearest} is nearest, with other "
            f"{', '.join(differences[nearest])}; measure a run that a configuration reproduces"
        )
    return nearest


def check_config_name(name: str, run: Path) -> None:
    """Refuse the name of a shipped configuration for a run of other settings; variants have names of their own."""
    if name in _shipped() and config_of(run) != name:
        raise SystemExit(
            f"--config-name is {name}, but run {run} has the settings of {config_of(run)}; give that name, or for a "
            "variant one that no file in configs/ has"
        )


def _shipped() -> dict[str, Any]:
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.yaml"))}


def _differences(wanted: Any, given: Any, name: str) -> Iterator[str]:
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            if key not in _FREE:
                found = given.get(key) if isinstance(given, dict) else None
                yield from _differences(value, found, f"{name}.{key}".lstrip("."))
    elif wanted is not None and wanted != given:
        yield name
