"""Writes the report: one HTML file with everything inside, readable without network or scripts."""

from pathlib import Path

from densessl.files import write_text
from densessl.report.cluster_naming import NAMING_SCRIPT
from densessl.report.contents import ReportContents
from densessl.report.curve_section import curve_section
from densessl.report.markup import Html, element, join
from densessl.report.overview_sections import header, reproduction_section, what_ran_section
from densessl.report.page_head import html_document, page_footer, page_head
from densessl.report.picture_sections import cluster_section, mask_section, prediction_section
from densessl.report.score_section import score_section

SECTIONS = (
    ("what-ran", "What ran", what_ran_section),
    ("predictions", "Predictions", prediction_section),
    ("scores", "Scores", score_section),
    ("clusters", "Clusters", cluster_section),
    ("masks", "Masks", mask_section),
    ("curves", "Curves", curve_section),
    ("reproduce", "Reproduce", reproduction_section),
)

COPY_SCRIPT = """
for (const block of document.querySelectorAll(".copyable")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    const reset = () => { button.textContent = "Copy"; };
    const done = (text) => { button.textContent = text; setTimeout(reset, 1500); };
    const select = () => { getSelection().selectAllChildren(block.querySelector("code")); done("Selected"); };
    if (!navigator.clipboard) { select(); return; }
    navigator.clipboard.writeText(block.querySelector("code").textContent).then(() => done("Copied"), select);
  });
  block.append(button);
}
"""


SCRIPT = COPY_SCRIPT + NAMING_SCRIPT


def write_report(contents: ReportContents, path: Path) -> Path:
    """Write the page atomically and return its path; raises `InputError` where it cannot be written."""
    write_text(path, render(contents))
    return path


def render(contents: ReportContents) -> str:
    """Return the page as one HTML document; sections without contents are left out."""
    drawn = [(identifier, name, draw(contents)) for identifier, name, draw in SECTIONS]
    shown = [(identifier, name, part) for identifier, name, part in drawn if part is not None]
    links = [(identifier, name) for identifier, name, _ in shown]
    main = element("main", {"id": "main"}, *(part for _, _, part in shown))
    skip = element("a", {"class": "skip", "href": "#main"}, "Skip to the results")
    body = element("body", None, skip, header(contents, links), main, page_footer(), _script())
    head = page_head(f"{contents.title} · densessl report", SCRIPT)
    return html_document(head, body)


def _script() -> Html:
    return join([Html("<script>"), Html(SCRIPT), Html("</script>")])
