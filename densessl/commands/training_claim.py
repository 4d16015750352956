"""What a network trained below a folder of masks depends on: recorded when it is begun, compared when it goes on."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from densessl.data.masks import MaskFolder
from densessl.errors import InputError
from densessl.files import read_json, write_json
from densessl.saliency.processing import source_sha256
from densessl.structures import ImageSet

_CONTENTS = "contents_sha256"


def describe_images(images: ImageSet, maps: MaskFolder | None = None) -> dict[str, Any]:
    """Return number, names and contents of the images that a network learns from, and of maps given for them."""
    stems = "\n".join(image.stem for image in images.images)
    digest = hashlib.sha256()
    for image in images.images:
        digest.update(os.fsencode(f"{image.stem} {source_sha256(image, maps)}\n"))
    return {
        "number": len(images),
        "names_sha256": hashlib.sha256(os.fsencode(stems)).hexdigest(),
        _CONTENTS: digest.hexdigest(),
    }


def claim_folder(
    out: Path,
    record: str,
    now: dict[str, dict[str, Any]],
    defaults: Mapping[str, Mapping[str, Any]],
    added: Sequence[str] = (),
) -> None:
    """Record what the network depends on, or refuse a folder that was begun with something else.

    Args:
        out: the folder, which exists.
        record: name of the file there.
        now: sections of settings, among them `images` (`describe_images`). A path named `weights` may differ.
        defaults: what the settings of a section were before a version knew them.
        added: sections that only some settings need, so that a folder may have begun without them.

    Raises:
        InputError: the record is none, or of other settings or images.
    """
    path = out / record
    if not path.is_file():
        write_json(path, now)
        return
    content = read_json(path, "the settings of a training")
    before = content if isinstance(content, dict) else {}
    needed = now.keys() - (set(added) - before.keys())
    if not all(isinstance(before.get(section), dict) for section in needed):
        raise InputError(f"{path} holds no settings of a training; choose another output folder (--out)")
    knows_contents = _CONTENTS in before["images"]
    before["images"].setdefault(_CONTENTS, now["images"][_CONTENTS])
    for section in defaults.keys() & now.keys() & before.keys():
        values = defaults[section]
        for key in now[section].keys() & values.keys():
            before[section].setdefault(key, values[key])  # earlier versions knew fewer settings
    differences = [
        _difference(f"{section}.{key}", before.get(section, {}).get(key), value)
        for section, values in now.items()
        for key, value in values.items()
        if key != "weights" and before.get(section, {}).get(key) != value  # a file of weights may move
    ]
    if differences:
        network = out / "network.safetensors"
        way_out = f", or use the network that is there (--network {network})" if network.is_file() else ""
        raise InputError(
            f"{out} was begun with other settings or images ({'; '.join(differences)}); use those, or another output "
            f"folder (--out){way_out}"
        )
    if not knows_contents:
        write_json(path, before)
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
            f"{path} is of an earlier version and does not say what the images held; taken to be what they hold now, "
            "which is recorded (another --out trains a new network)"
        )


def _difference(name: str, there: object, now: object) -> str:
    if name == f"images.{_CONTENTS}":
        return "images or given maps hold something else now than they did then"
    return f"{name} {there!r} there, {now!r} now"
