"""The `report` stage: one HTML page from a run folder."""

from pathlib import Path

from densessl.commands.checked_arguments import checked_arguments
from densessl.report.page import write_report
from densessl.report.run_folder import read_run


@checked_arguments
def report(run: Path, out: Path | None = None) -> Path:
    """Write one self-contained HTML page that shows what a run did and how well.

    The page opens from disk without network. Parts of the run that are absent are left out, and the page says
    where metrics were skipped for want of labels.

    Args:
        run: Folder of a run.
        out: HTML file to write; `report/index.html` in the run folder where it is left out.

    Returns:
        The path of the page.

    Raises:
        InputError: Where the folder holds no run, one of its files is broken, or the page cannot be written.
    """
    page = write_report(read_run(run), run / "report" / "index.html" if out is None else out)
    print(f"report: {page}")
    return page
