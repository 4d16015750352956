"""Rows of results: one JSON object per measurement, and Markdown tables rendered from them."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from densessl.files import write_text
from densessl.training.run_folder import environment_record

Row = dict[str, Any]


def append_row(path: Path, row: Row, environment: dict[str, Any] | None = None) -> Row:
    """Append a measurement to a results file, with date, commit, hardware and versions; returns the whole row.

    environment: the record of the process that measured (`environment_record`), if that was an earlier one.
    """
    if environment is None:
        environment = environment_record(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    full = {
        **row,
        "date": str(environment["started"])[:10],
        **{key: environment[key] for key in ("commit", "hardware", "versions")},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(full) + "\n")
    return full


def read_rows(path: Path) -> list[Row]:
    """Return all rows of a results file, oldest first; none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def latest(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[Row]:
    """Keep the newest row of each key, in the order in which the keys first appeared."""
    found: dict[Any, Row] = {}
    for row in rows:
        found[key(row)] = row
    return list(found.values())


def measured_on(row: Row) -> str:
    """Return in words where and when a row was measured."""
    cores = row["hardware"]["cores"]
    return f"{row['hardware']['device']}, {cores} core{'s' if cores != 1 else ''}, {row['date']}"


def all_measured_on(rows: Iterable[Row]) -> str:
    """Return in words where and when rows were measured, each place and day once."""
    return "; ".join(sorted({measured_on(row) for row in rows}))


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    table = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*table, *("| " + " | ".join(line) + " |" for line in lines)])


class Footnotes:
    """Long texts that a table refers to by letters, each text once."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Return the letter of a text (a to z, then aa, ab, ...): a new one for a new text."""
        if text not in self._marks:
            first, last = divmod(len(self._marks), 26)
            self._marks[text] = ("" if first == 0 else chr(ord("a") + first - 1)) + chr(ord("a") + last)
        return self._marks[text]

    def __str__(self) -> str:
        return "\n".join(f"- {mark}: {text}" for text, mark in self._marks.items())


def replace_block(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` in a Markdown file."""
    content = path.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in content or end not in content:
        raise SystemExit(f"{path} has no block {start} ... {end}; add it where the table belongs")
    before, _, rest = content.partition(start)
    _, _, after = rest.partition(end)
    write_text(path, f"{before}{start}\n{text}\n{end}{after}")
