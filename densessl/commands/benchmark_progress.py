"""A benchmark on its way: runs one protocol after the other and writes the table after each."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from densessl.commands.benchmark_cards import (
    Card,
    card_identity,
    cards_of,
    compare_cards,
    finished_card,
    write_card,
)
from densessl.commands.benchmark_table import Row, write_table
from densessl.commands.cluster_output import ORACLE
from densessl.commands.protocol_data import ProtocolData
from densessl.commands.protocol_result import ProtocolSettings
from densessl.commands.protocol_runs import (
    PROTOCOLS,
    named_protocol,
    run_protocol,
)
from densessl.errors import InputError
from densessl.evaluation.extraction import Foreground


@dataclass
class Progress:
    """A benchmark on its way: the rows so far, written after each. left_out: protocols that do not run, and why."""

    out: Path
    data: ProtocolData
    settings: ProtocolSettings
    left_out: dict[str, str]
    compare: Path | None
    environment: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Run a protocol, or find its card."""
        if name in self.left_out:
            self.rows.append(Row(name, None, self.left_out[name]))
            _say(f"{name}: left out: {self.left_out[name]}")
            return
        try:
            card = self._card(name)
        except InputError as error:
            self.rows.append(Row(name, None, str(error), is_failure=True))
            _say(f"{name}: failed: {error}")
            return
        self.rows.append(self._compared(Row(name, card)))
        self.write(is_complete=False)

    def write(self, *, is_complete: bool) -> str:
        """Write the table of the rows so far, and of the cards of earlier calls; returns its text."""
        opened, scored = self.data.encoder.opened, self.data.settings
        heading = [
            f"# Benchmark of {self.data.encoder.name}",
            "",
            f"{opened.description}; labels that touched its weights: {opened.supervision}.",
            f"Scored on {len(self.data.scored)} images of split {scored.split} of {scored.data.resolve().name}, "
            f"{len(self.data.classes)} classes; percent. Foreground: {_foreground(scored.foreground)}.",
        ]
        record = {
            "encoder": {"name": self.data.encoder.name, "kind": self.data.encoder.kind, **_of(opened)},
            "data": scored.data.resolve(),
            "split": scored.split,
            "foreground": scored.foreground,
            "classes": list(self.data.classes.labels),
            "is_complete": is_complete,
            "encoding_seconds": self.data.encoding_seconds,
            "environment": self.environment,
        }
        return write_table(self.out, heading, self._with_earlier(), record)

    def _with_earlier(self) -> list[Row]:
        """Return the rows so far and those of the folder's other cards of this encoder and data, in one order."""
        earlier = cards_of(self.out / "cards", self.data)
        rows = {name: Row(name, card, is_earlier=True) for name, card in earlier.items()}
        rows = {name: self._compared(row) for name, row in rows.items()}
        for row in self.rows:
            is_only_left_out = row.card is None and not row.is_failure
            if row.name not in rows or not is_only_left_out:
                rows[row.name] = row
        return [rows[name] for name in PROTOCOLS if name in rows]

    def _card(self, name: str) -> Card:
        protocol = named_protocol(name, self.settings)
        identity = card_identity(protocol, self.data, self.settings)
        card = finished_card(self.out / "cards", name, identity, self.settings)
        if card is not None:
            _say(f"{name}: mIoU {100 * card.content['miou']:.1f}, finished before")
            return card
        started, encoded = time.monotonic(), self.data.encoding_seconds
        result = run_protocol(protocol, self.data, self.settings)
        seconds = time.monotonic() - started - (self.data.encoding_seconds - encoded)
        _say(f"{name}: mIoU {100 * result.miou:.1f}, {seconds:.0f} s")
        return write_card(self.out / "cards", result, identity, self.data, seconds, self.environment)

    def _compared(self, row: Row) -> Row:
        if self.compare is None or row.card is None:
            return row
        try:
            found = compare_cards(row.card, self.compare, self.settings.num_resamples, self.settings.seed)
        except InputError as error:
            return replace(row, comparison=str(error))
        return replace(row, comparison=found)


def _foreground(foreground: Foreground | None) -> str:
    match foreground:
        case None:
            return "none was given"
        case "labels":
            return ORACLE
        case "head":
            return "the network's saliency head"
        case "masks":
            return "given masks"
        case "all":
            return "every pixel"


def _of(opened: Any) -> dict[str, Any]:
    keys = ("description", "fingerprint", "supervision", "precision")
    return {key: getattr(opened, key) for key in keys}


def _say(line: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(line)
