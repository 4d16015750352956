"""The journal of a proposals folder: one line for each finished image, from which a stopped run goes on.

Every process that works on a folder appends to a file of its own, `records.jsonl` or `records-<i>-of-<n>.jsonl`, and
reads all of them. Only the place of each line is kept in memory, so that the number of images does not matter.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

from rich.console import Console

from densessl.errors import InputError
from densessl.files import append_text


@dataclass(frozen=True)
class ImageRecord:
    """What is known of one finished image: its proposals as COCO annotations without ids, or why it has none.

    `is_unreadable` marks images whose file was broken or on which the estimator failed; they are tried again by the
    next run. `file_sha256` is of the files that it was made from, the image's in most stages; None where the stage did
    not take note of it. `file_name` is the image's below its folder, where the stage cannot tell it from the stem
    later.
    """

    stem: str
    height: int = 0
    width: int = 0
    annotations: tuple[dict[str, Any], ...] = ()
    reason: str | None = None
    is_unreadable: bool = False
    file_sha256: str | None = None
    file_name: str | None = None


class RecordPlace(NamedTuple):
    """Where the record of an image stands, and what a run must know of it before it reads it."""

    journal: Path
    offset: int
    is_rejected: bool
    is_unreadable: bool
    file_sha256: str | None = None


class StoredRecords(Sequence[ImageRecord]):
    """Records that are read from their journals when they are asked for."""

    def __init__(self, places: Sequence[RecordPlace], handles: dict[Path, BinaryIO]) -> None:
        self._places = places
        self._handles = handles

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredRecords": ...
    def __getitem__(self, index: int | slice) -> "ImageRecord | StoredRecords":
        if isinstance(index, slice):
            return StoredRecords(self._places[index], self._handles)
        place = self._places[index]
        handle = self._handles[place.journal]
        handle.seek(place.offset)
        return _parse(handle.readline(), place.journal, place.offset)


@contextmanager
def open_records(places: Sequence[RecordPlace]) -> Iterator[StoredRecords]:
    """Open the journals of these places for reading."""
    with ExitStack() as stack:
        journals = {place.journal for place in places}
        yield StoredRecords(places, {path: stack.enter_context(path.open("rb")) for path in journals})


def append_record(path: Path, record: ImageRecord) -> None:
    """Add one line to the records of finished images; raises `InputError` where the disk is full or read-only."""
    append_text(path, json.dumps(asdict(record)) + "\n")


def index_records(
    folder: Path, *, is_stale: Callable[[ImageRecord], bool] = lambda record: False, is_quiet: bool = False
) -> dict[str, RecordPlace]:
    """Return the place of the last record of every finished image, by stem.

    A record that `is_stale` is passed over, with those before it in its journal. So is a last line that was cut short,
    and a line that is no record; their images count as unfinished, and each journal with such lines costs one printed
    line, unless `is_quiet`. Where several journals know an image, one that could read it wins.
    """
    places: dict[str, RecordPlace] = {}
    for path in sorted(folder.glob("records*.jsonl")):
        broken: list[InputError] = []
        for offset, line in _whole_lines(path):
            try:
                record = _parse(line, path, offset)
            except InputError as error:
                broken.append(error)
                continue
            before = places.get(record.stem)
            if is_stale(record):
                if before is not None and before.journal == path:
                    del places[record.stem]  # what was written of it has been replaced
                continue
            place = RecordPlace(path, offset, record.reason is not None, record.is_unreadable, record.file_sha256)
            if before is None or before.journal == path or not place.is_unreadable:
                places[record.stem] = place
        if broken and not is_quiet:
            _warn(broken)
    return places


def drop_cut_line(path: Path) -> None:
    """Cut a journal after its last whole line, so that the next record starts on a line of its own."""
    if not path.is_file():
        return
    with path.open("rb+") as handle:
        end = handle.seek(0, 2)
        while end > 0:  # in blocks from the end: a journal can be large
            start = max(0, end - 65536)
            handle.seek(start)
            position = handle.read(end - start).rfind(b"\n")
            if position >= 0:
                handle.truncate(start + position + 1)
                return
            end = start
        handle.truncate(0)


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the place and the content of every line that was written to its end."""
    offset = 0
    with path.open("rb") as handle:
        for line in handle:
            if line.endswith(b"\n"):
                yield offset, line
            offset += len(line)


def _parse(line: bytes, path: Path, offset: int) -> ImageRecord:
    try:
        fields = json.loads(line)
        return ImageRecord(**{**fields, "annotations": tuple(fields["annotations"])})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} at byte {offset} holds no record of an image ({error}); a run of `densessl saliency` does images "
            "without a record again"
        ) from error


def _warn(broken: Sequence[InputError]) -> None:
    """Tell the user of the first of a journal's broken lines, and how many more there are."""
    more = f" (and {len(broken) - 1} more such lines)" if len(broken) > 1 else ""
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(f"warning: {broken[0]}{more}")
