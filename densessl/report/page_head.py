"""What pages have in common: a head with styles and a policy that lets nothing run or load but what they hold."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files

from densessl import __version__
from densessl.report.markup import Html, element, paragraph, section, settings_table
from densessl.structures import Rejection


def page_head(title: str, script: str, *more_sheets: str) -> Html:
    """Return the head element of a self-contained page.

    Args:
        title: of the window.
        script: the one script of the page; the policy admits no other.
        more_sheets: style sheets of the package besides `style.css`.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    sheets = ("style.css", *more_sheets)
    style = "\n".join((files("densessl.report") / name).read_text(encoding="utf-8") for name in sheets)
    return element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("title", None, title),
        element("style", None, Html(style)),
    )


@dataclass(frozen=True)
class PageOpening:
    """What stands above the sections of a page without scripts.

    command: that wrote it. title: of the page. lead: a sentence that says what it shows. notes: sentences.
    facts: a table, and its caption.
    """

    command: str
    title: str
    lead: str
    notes: Iterable[str]
    facts: Mapping[str, str]
    caption: str


def plain_page(opening: PageOpening, sections: Iterable[Html | None]) -> str:
    """Return a page without scripts as one HTML document; sections that are None are left out."""
    header = element(
        "header",
        None,
        paragraph(f"densessl {opening.command}", style="overline"),
        element("h1", None, opening.title),
        paragraph(opening.lead, style="lead"),
        *(paragraph(note, style="note") for note in opening.notes),
        settings_table(opening.facts, opening.caption),
    )
    main = element("main", {"id": "main"}, *(part for part in sections if part is not None))
    body = element("body", None, header, main, page_footer())
    head = page_head(f"{opening.title} · densessl {opening.command}", "")
    return html_document(head, body)


def page_footer() -> Html:
    """Return the last line of a page."""
    return element("footer", None, paragraph(f"Written by densessl {__version__}. This file needs no network."))


def html_document(head: Html, body: Html) -> str:
    """Return the text of a file in HTML."""
    return "<!doctype html>\n" + element("html", {"lang": "en"}, head, body) + "\n"


def left_out_section(rejected: Iterable[Rejection]) -> Html | None:
    """Return the section that lists what was left out and why; None where nothing was."""
    items = [element("li", None, f"{item.stem}: {item.reason}") for item in rejected]
    return section("rejected", "Left out", element("ul", {"class": "remarks"}, *items)) if items else None
