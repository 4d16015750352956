"""The folder of an export: written beside what is there, and moved into its place when all of it holds."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from densessl.errors import InputError
from densessl.files import file_sha256, make_folder, read_json, writable_folder, write_json
from densessl.promptable.export_comparison import ComparedSize
from densessl.promptable.onnx_predictor import RECORD

_STAGING = ".unfinished-export-"
_OWN_KEYS = {"supervision", "parts", "tolerance"}
"""By which a record of this command is told from another file of its name."""


@dataclass
class ExportFolder:
    """An export on its way: its files in `staging`, and the record that will be export.json."""

    staging: Path
    record: dict[str, Any] = field(default_factory=dict)

    def describe(self, compared: Mapping[str, Sequence[ComparedSize]]) -> None:
        """Enter the files that are there, with their length, SHA-256 and comparison, and write the record."""
        names = sorted(path.name for path in self.staging.iterdir() if path.name != RECORD)
        self.record["files"] = {
            name: {
                "bytes": (self.staging / name).stat().st_size,
                "sha256": file_sha256(self.staging / name),
                "compared": [asdict(one) for one in compared.get(name, ())],
            }
            for name in names
        }
        write_json(self.staging / RECORD, self.record)

    def enter_int8(self, measured: dict[str, Any]) -> None:
        """Enter the int8 files and what was measured of them."""
        self.record["int8"] = measured
        files = self.record["files"]
        self.describe({name: [ComparedSize(**one) for one in files[name]["compared"]] for name in files})


@contextlib.contextmanager
def claimed_export_folder(out: Path) -> Iterator[ExportFolder]:
    """Give a folder to write an export in; it replaces what an earlier one left in `out` when the block ends well.

    Raises:
        InputError: `out` holds something else, or cannot be written.
    """
    make_folder(out)
    rests = [path for path in out.glob(f"{_STAGING}*") if path.is_dir()]  # of exports that were killed
    old = _earlier_files(out) if any(path not in rests for path in out.iterdir()) else ()
    for rest in rests:
        shutil.rmtree(rest)
    with writable_folder(out), tempfile.TemporaryDirectory(dir=out, prefix=_STAGING) as staging:
        folder = ExportFolder(Path(staging))
        yield folder
        _move_into_place(folder.staging, out, old)


def _earlier_files(out: Path) -> tuple[str, ...]:
    """Return the names of the files of the export in a folder; raises `InputError` where there is none."""
    path = out / RECORD
    record = read_json(path, "the record of `export_promptable`") if path.is_file() else None
    if not (isinstance(record, dict) and isinstance(record.get("files"), dict) and record.keys() >= _OWN_KEYS):
        raise InputError(f"{out} holds something that is no export; choose a new or an empty output folder (--out)")
    return tuple(record["files"])


def _move_into_place(staging: Path, out: Path, old: Sequence[str]) -> None:
    new = sorted(path.name for path in staging.iterdir() if path.name != RECORD)
    for name in new:
        os.replace(staging / name, out / name)
    os.replace(staging / RECORD, out / RECORD)
    for name in old:
        if name not in new and Path(name).name == name:
            (out / name).unlink(missing_ok=True)
