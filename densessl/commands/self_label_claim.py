"""What an output folder of `self_label` was begun with, and whether a call may go on in it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densessl.data.masks import MaskFolder
from densessl.errors import InputError
from densessl.files import file_sha256, read_json, write_json
from densessl.structures import ImageRef

_RECORD = "self_label.json"


def claim(out: Path, now: dict[str, dict[str, Any]], resume: bool) -> None:
    """Record what the results depend on, or refuse a folder that was begun otherwise.

    Args:
        out: the output folder. now: sections of settings. resume: whether the caller wants to go on.

    Raises:
        InputError: the folder was begun and `resume` is false, or with other settings; names each with both values.
    """
    path = out / _RECORD
    if not path.is_file():
        write_json(path, now)
        return
    before = read_json(path, "the settings of `self_label`")
    if not isinstance(before, dict) or not all(isinstance(before.get(section), dict) for section in now):
        raise InputError(f"{path} holds no settings of `self_label`; choose another output folder (--out)")
    if not resume:
        raise InputError(f"{out} was already begun; add --resume true to go on with it, or choose another --out")
    differences = [
        f"{section}.{key} {before[section].get(key)!r} there, {value!r} now"
        for section, values in now.items()
        for key, value in values.items()
        if before[section].get(key) != value
    ]
    if differences:
        raise InputError(
            f"cannot resume {out}, which was begun with other settings or files ({'; '.join(differences)}); use those, "
            "or another output folder (--out)"
        )


def fingerprint(images: Sequence[ImageRef], masks: MaskFolder | None = None) -> dict[str, Any]:
    """Return the number of images, a digest of their names and, with masks, one of the contents of those.

    Soft maps below `soft/` of the mask folder count as masks.
    """
    names = hashlib.sha256("\n".join(ref.stem for ref in images).encode()).hexdigest()
    known: dict[str, Any] = {"number": len(images), "names_sha256": names}
    if masks is None:
        return known
    content = hashlib.sha256()
    for stem in sorted(masks.files):
        for path in (masks.files[stem], masks.folder / "soft" / f"{stem}.png"):
            if path.is_file():
                content.update(f"{stem} {file_sha256(path)}\n".encode())
    return {**known, "masks_sha256": content.hexdigest()}
