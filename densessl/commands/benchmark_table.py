"""The table of a benchmark: a row for each protocol, and what the numbers may be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densessl.commands.benchmark_cards import Card
from densessl.evaluation.bootstrap import CONFIDENCE, PairedBootstrap
from densessl.files import write_json, write_text
from densessl.training.run_folder import plain


@dataclass(frozen=True)
class Row:
    """A protocol's line: its card, or why there is none. is_failure: it was to run, and could not.

    comparison: with another benchmark, or why it could not be compared; None where that was not asked for.
    is_earlier: the card is of an earlier call, whose settings may be others than those of this one.
    """

    name: str
    card: Card | None
    reason: str = ""
    is_failure: bool = False
    comparison: PairedBootstrap | str | None = None
    is_earlier: bool = False


def write_table(out: Path, heading: Sequence[str], rows: Sequence[Row], record: dict[str, Any]) -> str:
    """Write benchmark.md and benchmark.json, and return the text of the former.

    heading: lines above the table. record: what benchmark.json says besides the rows.
    """
    text = "\n".join([*heading, "", *_table(rows), *_comparisons(rows), *_notes(rows)]) + "\n"
    write_text(out / "benchmark.md", text)
    write_json(out / "benchmark.json", plain({**record, "protocols": [_row_json(row) for row in rows]}))
    return text


def _table(rows: Sequence[Row]) -> list[str]:
    has_instances = any(row.card is not None and "instances" in row.card.content["scores"] for row in rows)
    heads = ["protocol", "mIoU", f"{100 * CONFIDENCE:.0f} % of resampled images", "pixel accuracy", "boundary IoU"]
    heads += ["instances: AP / AR"] if has_instances else []
    heads += ["labels: fit", "labels: matching", "s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        if row.card is None:
            reason = f"{'failed' if row.is_failure else 'left out'}: {_cell(row.reason)}"
            lines.append(f"| {row.name} | {reason} |{' |' * (len(heads) - 2)}")
            continue
        content = row.card.content
        scores, labels = content["scores"], content["labels"]
        cells = [
            row.name,
            _mean(scores, content["miou"]),
            _interval(scores),
            f"{100 * scores['pixel_accuracy']:.1f}",
            _percent(scores.get("mean_boundary_iou")),
            *([_instance_cell(scores)] if has_instances else []),
            labels["fit"],
            labels["matching"].partition(":")[0],
            f"{content['seconds']:.0f}",
        ]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return lines


def _comparisons(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        match row.comparison:
            case PairedBootstrap() as found:
                lines.append(
                    f"- {row.name}: better than {found.other} (mIoU {100 * found.other_miou:.1f}, here "
                    f"{100 * found.miou:.1f}{_of_seed(row)}) in {100 * found.better:.0f} % of resamples; difference "
                    f"{100 * found.difference:+.1f}, {100 * found.low:+.1f} to {100 * found.high:+.1f}"
                )
            case str() as reason:
                lines.append(f"- {row.name}: not compared: {reason}")
    title = "Compared on the same resamples of images; where clustering was repeated, first seed with first seed:"
    return ["", title, "", *lines] if lines else []


def _notes(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        if row.card is not None:
            content = row.card.content
            notes = [_earlier(content)] if row.is_earlier else []
            notes += content["notes"]
            if content["left_out"]:
                first, number = content["left_out"][0], len(content["left_out"])
                notes.append(
                    f"{number} of {number + content['num_images']} images left out; the first: {first['stem']}: "
                    f"{first['reason']}"
                )
            lines += [f"- {row.name}: {note}" for note in notes]
    return ["", "Notes:", "", *lines] if lines else []


def _earlier(content: dict[str, Any]) -> str:
    foreground = content["identity"]["foreground"]
    masks = "" if foreground is None else f"; foreground: {foreground}"
    return f"of an earlier call: {content['description']}{masks}"


def _row_json(row: Row) -> dict[str, Any]:
    if row.card is None:
        return {"name": row.name, "failed" if row.is_failure else "left_out": row.reason}
    content = row.card.content
    scores = content["scores"]
    comparison = row.comparison
    return {
        "name": row.name,
        "card": f"cards/{row.card.path.name}",
        "miou": content["miou"],
        "miou_std": scores.get("miou_std"),
        "miou_per_seed": scores.get("miou_per_seed"),
        "miou_interval": scores.get("bootstrap", {}).get("miou_interval"),
        "pixel_accuracy": scores["pixel_accuracy"],
        "mean_boundary_iou": scores.get("mean_boundary_iou"),
        **_instances(scores),
        "labels": content["labels"],
        "seconds": content["seconds"],
        **({"is_earlier": True} if row.is_earlier else {}),
        "comparison": comparison.to_json() if isinstance(comparison, PairedBootstrap) else comparison,
    }


def _mean(scores: dict[str, Any], miou: float) -> str:
    if "miou_std" not in scores:
        return f"{100 * miou:.1f}"
    num_seeds = len(scores["miou_per_seed"])
    spread = f" \u00b1 {100 * scores['miou_std']:.1f} ({num_seeds} seeds)" if num_seeds > 1 else " (1 seed)"
    return f"{100 * miou:.1f}{spread}"


def _of_seed(row: Row) -> str:
    """Say that compared numbers are those of one seed, where the row's own is a mean over several."""
    is_mean = row.card is not None and len(row.card.content["scores"].get("miou_per_seed", [])) > 1
    return ", both of their first seed" if is_mean else ""


def _interval(scores: dict[str, Any]) -> str:
    if "bootstrap" not in scores:
        return "-"
    low, high = scores["bootstrap"]["miou_interval"]
    first = " (first seed)" if len(scores.get("miou_per_seed", [])) > 1 else ""
    return f"{100 * low:.1f} to {100 * high:.1f}{first}"


def _instance_cell(scores: dict[str, Any]) -> str:
    found = scores.get("instances")
    return "-" if found is None else f"{_percent(found['ap'])} / {_percent(found['ar_100'])}"


def _instances(scores: dict[str, Any]) -> dict[str, Any]:
    found = scores.get("instances")
    if found is None:
        return {}
    return {"instances": {key: found[key] for key in ("ap", "ap_50", "ap_75", "ar_100", "objects_from")}}


def _percent(value: float | None) -> str:
    """Return a fraction in percent; "-" for a card that was written without that score."""
    return "-" if value is None else f"{100 * value:.1f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
