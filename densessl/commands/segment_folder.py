"""segment.json: what made the masks of a folder, and whether a folder may be written again."""

from pathlib import Path
from typing import Any

from densessl.data.masks import SALIENCY_RECORD, SEGMENT_RECORD
from densessl.errors import InputError
from densessl.files import make_folder, read_json, remove_abandoned_writes, write_json
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.training.run_folder import plain

_EXPECTED = "the record of `segment`"


def claim_segment_folder(out: Path, record: dict[str, Any]) -> None:
    """Make the folder this record's own; what an earlier call recorded under "compared" must be the same.

    Raises:
        InputError: it was begun with something else, shows both; or it holds what `segment` did not write.
    """
    make_folder(out)
    if (out / SALIENCY_RECORD).is_file():
        raise InputError(f"{out} was written by `saliency`; choose another output folder (--out)")
    path = out / SEGMENT_RECORD
    new = plain(record)
    old = read_json(path, _EXPECTED) if path.is_file() else None
    if old is not None:
        before = old.get("compared") if isinstance(old, dict) else None
        if not isinstance(before, dict):
            raise InputError(f"{path} holds no record of `segment`; choose another output folder (--out)")
        now = new["compared"]
        if isinstance(before.get("model"), dict):  # earlier versions knew fewer settings, at their defaults of now
            before = {**before, "model": plain(PromptableSettings()) | before["model"]}
        differences = [
            f"{key} {before.get(key)!r} there, {now.get(key)!r} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if differences:
            raise InputError(
                f"{out} was begun with something else ({'; '.join(differences)}); choose another output folder (--out)"
            )
    remove_abandoned_writes(out)
    if old is None:
        if any(out.iterdir()):
            raise InputError(
                f"{out} is not empty and has no {SEGMENT_RECORD}, so `segment` did not begin it; choose a new or an "
                "empty output folder (--out)"
            )
        write_json(path, new)


def write_segment_record(out: Path, record: dict[str, Any]) -> None:
    """Write segment.json."""
    write_json(out / SEGMENT_RECORD, plain(record))
