"""The top of the page: the headline with its large numbers, what ran, and how to run it again."""

import shlex
from collections.abc import Sequence

from densessl.report.contents import ReportContents, RunRecord, Scores
from densessl.report.markup import Html, element, join, paragraph, section, settings_table
from densessl.structures import Provenance

PROVENANCE_QUESTIONS = (
    ("backbone", "Labels behind the backbone's first weights"),
    ("masks", "Labels behind the masks"),
    ("selection", "Labels used to choose the checkpoint"),
    ("matching", "Labels used to match clusters to classes"),
)
NO_LABELS = "No labels were found for these images, so metrics that need labels were skipped."


def header(contents: ReportContents, links: Sequence[tuple[str, str]]) -> Html:
    """Return the title, a one-line summary, the headline numbers and the links to the sections."""
    entries = [element("li", None, element("a", {"href": f"#{identifier}"}, name)) for identifier, name in links]
    notes = [paragraph(note, style="note") for note in contents.notes]
    if contents.scores is None and contents.clustering is not None:
        notes.insert(0, paragraph(NO_LABELS, style="note"))
    return element(
        "header",
        None,
        paragraph("densessl report", style="overline"),
        element("h1", None, contents.title),
        paragraph(_summary(contents), style="lead"),
        element("dl", {"class": "figures"}, *_headline_figures(contents)),
        *notes,
        element("nav", {"aria-label": "Sections"}, element("ul", None, *entries)),
    )


def what_ran_section(contents: ReportContents) -> Html | None:
    """Return the table of what ran and which labels touched it, or `None` where nothing was recorded."""
    record = contents.record
    if record is None:
        return None
    rows = {
        "Command": _wrapped_commands(record.commands) if record.commands else None,
        "Started": record.started.replace("T", " ") if record.started else None,
        "Training took": None if record.seconds is None else duration(record.seconds),
        "Machine": ", ".join(_part_of_machine(*part) for part in record.hardware.items()) or None,
        "Seed": None if record.seed is None else str(record.seed),
    }
    parts: list[Html] = [settings_table({name: value for name, value in rows.items() if value}, "The run")]
    provenance = contents.scores.provenance if contents.scores else None
    provenance = provenance or record.provenance
    if provenance is not None:
        parts.append(_provenance(provenance))
    return section("what-ran", "What ran", element("div", {"class": "columns"}, *parts))


def reproduction_section(contents: ReportContents) -> Html | None:
    """Return the commands, seed, versions and configuration that reproduce the run."""
    record = contents.record or RunRecord()
    if not record.commands and not contents.config:
        return None
    parts: list[Html] = []
    if record.commands:
        heading = "Command" if len(record.commands) == 1 else "Commands"
        parts += [element("h3", None, heading), _copyable("\n".join(record.commands))]
    report = f"densessl report {shlex.quote(contents.title)}"
    parts += [element("h3", None, "This page, from the folder that holds the run"), _copyable(report)]
    versions = dict(record.versions)
    if record.commit:
        versions["commit"] = record.commit
    if record.seed is not None:
        versions["seed"] = str(record.seed)
    if versions or record.hardware:
        tables = [("Versions and seed", versions), ("Hardware", dict(record.hardware))]
        shown = [settings_table(rows, caption) for caption, rows in tables if rows]
        parts.append(element("div", {"class": "columns"}, *shown))
    if contents.config:
        parts += [
            element("h3", None, "Configuration, with every default filled in"),
            _copyable(contents.config),
        ]
    return section("reproduce", "How to reproduce", *parts)


def percent(value: float) -> str:
    """Return a share in [0, 1] as percent with one decimal, without the sign."""
    return f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Return a duration in the two largest of hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _part_of_machine(name: str, value: str) -> str:
    """Return a recorded part of the machine in words: the number of cores needs its noun."""
    return f"{value} core{'' if value == '1' else 's'}" if name == "cores" else value


def _summary(contents: ReportContents) -> str:
    sentences = []
    if contents.gallery is not None and contents.gallery.num_masks:
        sentences.append(f"{contents.gallery.num_masks:,} masks")
    clustering = contents.clustering
    if clustering is not None:
        images = f"{clustering.num_images:,} images" if clustering.num_images else "images"
        sentences.append(f"{images} grouped into {clustering.num_clusters} clusters")
    if contents.scores is not None:
        sentences.append(f"scored on {len(contents.scores.classes)} classes")
    if not sentences:
        return "A run without masks or clusters yet."
    joined = ", ".join(sentences)
    return joined[0].upper() + joined[1:] + "."


def _headline_figures(contents: ReportContents) -> list[Html]:
    after, before, clustering = contents.scores, contents.scores_before, contents.clustering
    figures: list[Html] = []
    if before is not None and after is not None:
        figures.append(_figure("mIoU before pretraining", percent(before.miou), _spread(before), "quiet", "%"))
    if after is not None:
        name = "mIoU after pretraining" if before is not None else "mIoU"
        figures.append(_figure(name, percent(after.miou), _spread(after), "main", "%"))
    if before is not None and after is not None:
        points = 100 * (after.miou - before.miou)
        figures.append(_figure("change", f"{points:+.1f}".replace("-", "−"), "points"))
    if clustering is None:
        return figures
    if after is None:
        figures.append(_figure("clusters", str(clustering.num_clusters), _seeds_note(clustering.seeds), "main"))
    earlier = contents.clustering_before
    measures = (
        ("stability", clustering.stability, earlier.stability if earlier else None, "agreement between seeds"),
        ("silhouette", clustering.silhouette, earlier.silhouette if earlier else None, "from −1 to 1"),
    )
    for name, value, value_before, detail in measures:
        if value is not None:
            detail = detail if value_before is None else f"{_signed(value_before)} before pretraining"
            figures.append(_figure(name, _signed(value), detail))
    return figures


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _seeds_note(seeds: str | None) -> str:
    return f"seeds {seeds}" if seeds else ""


def _spread(scores: Scores) -> str:
    num_seeds = len(scores.miou_per_seed)
    if scores.miou_std is None or num_seeds == 1:
        return "one seed"
    seeds = f" over {num_seeds} seeds" if num_seeds else ""
    return f"± {percent(scores.miou_std)}{seeds}"


def _figure(name: str, value: str, detail: str, style: str | None = None, unit: str = "") -> Html:
    small = element("small", None, unit) if unit else ""
    return element(
        "div",
        {"class": style},
        element("dt", None, name),
        element("dd", {"class": "value"}, value, small),
        element("dd", {"class": "detail"}, detail),
    )


def _provenance(provenance: Provenance) -> Html:
    table = settings_table(
        {question: getattr(provenance, name) for name, question in PROVENANCE_QUESTIONS},
        "Which labels touched what",
    )
    notes = [element("li", None, note) for note in provenance.notes]
    if not notes:
        return table
    return element("div", None, table, element("ul", {"class": "remarks"}, *notes))


def _wrapped_commands(commands: Sequence[str]) -> Html:
    """Let lines break between words only, since browsers also break inside `--option`."""
    lines: list[Html] = []
    for command in commands:
        words = [element("span", {"class": "word"}, word) for word in command.split(" ")]
        spaced = [part for word in words for part in (word, " ")]
        lines.append(element("div", None, element("code", None, *spaced[:-1])))
    return join(lines)


def _copyable(text: str) -> Html:
    return element("div", {"class": "copyable"}, element("pre", {"tabindex": "0"}, element("code", None, text)))
