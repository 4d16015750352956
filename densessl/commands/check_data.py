"""The command `densessl check-data`: what a data set holds and every fault in it."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from densessl.commands.checked_arguments import checked_arguments
from densessl.data.layouts import DataReport, check_data_set


@checked_arguments
def check_data(data: Path) -> int:
    """Check a data set (VOC layout, COCO layout or a plain folder of images) and print what was found.

    Every image and every label map is decoded; nothing is downloaded or changed. Returns the exit status: 0
    where all is well, 1 where faults were listed.

    Args:
        data: The root folder of the data set.
    """
    columns = (TextColumn("checking images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("checking images", total=None)
        report = check_data_set(data, lambda done, total: bar.update(task, completed=done, total=total))
    print(describe_report(report))
    return 1 if report.faults else 0


def describe_report(report: DataReport) -> str:
    """Return the report as text: layout, splits, notes, faults, and a last line that says whether all is
    well."""
    lines = [f"layout: {report.layout}"]
    for split in report.splits:
        labels = "no labels" if split.num_labels is None else f"{split.num_labels:,} label maps"
        lines.append(f"split {split.name}: {split.num_images:,} images, {labels}")
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"fault: {fault}" for fault in report.faults]
    num_faults = len(report.faults)
    lines.append("no faults" if not num_faults else f"{num_faults:,} fault{'s' if num_faults > 1 else ''}")
    return "\n".join(lines)
