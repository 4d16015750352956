"""Which shipped configuration a run was made with, told by its settings and not by whoever measures it."""

from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).parents[1] / "configs"
_FREE = {"seed"}


def config_of(run: Path) -> str:
    """Return the name of the configuration in `configs/` whose settings a run has, whatever its seed and its paths.

    A setting that the configuration leaves open (null) may have any value. Raises `SystemExit` where none or several
    agree.
    """
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    shipped = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.yaml"))}
    found = [name for name, wanted in shipped.items() if _agrees(wanted, settings)]
    if len(found) != 1:
        raise SystemExit(
            f"the settings of run {run} are those of {' and '.join(found) or 'no configuration'} in {CONFIGS.name}/; "
            "rows are of runs that a configuration reproduces"
        )
    return found[0]


def _agrees(wanted: Any, given: Any) -> bool:
    if wanted is None:
        return True
    if not isinstance(wanted, dict) or not isinstance(given, dict):
        return bool(wanted == given)
    return all(key in given and _agrees(value, given[key]) for key, value in wanted.items() if key not in _FREE)
