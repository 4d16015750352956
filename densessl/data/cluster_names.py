"""Names that people gave to clusters: a small YAML file beside them."""

from pathlib import Path

import yaml

from densessl.errors import InputError

NAMES_FILE = "names.yaml"
_EXAMPLE = "write one line for each cluster that has a name, such as `3: cat`"


def read_cluster_names(folder: Path, num_clusters: int) -> dict[int, str]:
    """Read `names.yaml` of a clusters folder: a mapping from cluster id (as in clusters.json, from 0) to name.

    Clusters may go without a name, and several may share one. Where there is no file, none has a name.

    Raises:
        InputError: no YAML mapping, an id that is no whole number in 0..num_clusters - 1 or stands there twice, or a
            name that is no text.
    """
    path = folder / NAMES_FILE
    if not path.is_file():
        return {}
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        entries = _entries(root)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no valid YAML ({' '.join(str(error).split())}); {_EXAMPLE}") from error
    if entries is None:
        raise InputError(f"{path} holds no mapping from cluster id to name; {_EXAMPLE}")
    names: dict[int, str] = {}
    for key, value in entries:
        if type(key) is not int or not 0 <= key < num_clusters:  # YAML's true is no id
            raise InputError(f"{path} names cluster {key!r}; cluster ids are 0-{num_clusters - 1} (see clusters.json)")
        if not isinstance(value, str) or not value.strip():
            raise InputError(
                f"{path} gives cluster {key} the name {value!r}, which is no text; write it in quotes, or leave the "
                "line out"
            )
        if key in names:
            raise InputError(f"{path} names cluster {key} twice ({names[key]!r} and {value.strip()!r}); keep one")
        names[key] = " ".join(value.split())
    return names


def _entries(root: yaml.Node | None) -> list[tuple[object, object]] | None:
    """Return the pairs of a mapping, repeated keys too; None where there is no mapping, none for an empty file."""
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        return None
    constructor = yaml.constructor.SafeConstructor()
    return [tuple(constructor.construct_object(node, deep=True) for node in pair) for pair in root.value]
