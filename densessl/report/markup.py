"""HTML built from elements: plain strings are escaped, only `Html` passes through."""

import html
from collections.abc import Iterable, Mapping

VOID_ELEMENTS = frozenset({"img", "meta", "br", "hr", "input"})


class Html(str):
    """A piece of HTML that is already safe; everything else is text and gets escaped."""

    __slots__ = ()


def element(name: str, attributes: Mapping[str, str | None] | None = None, *children: str) -> Html:
    """Return `<name attributes>children</name>`; attributes that are `None` are left out."""
    pairs = "".join(
        f' {key}="{html.escape(value, quote=True)}"' for key, value in (attributes or {}).items() if value is not None
    )
    if name in VOID_ELEMENTS:
        return Html(f"<{name}{pairs}>")
    return Html(f"<{name}{pairs}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Join pieces of HTML and text into one piece of HTML, escaping the text."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part, quote=True) for part in parts))


def paragraph(*children: str, style: str | None = None) -> Html:
    """Return a paragraph of the CSS class `style`."""
    return element("p", {"class": style}, *children)


def image(uri: str, alt: str, size: tuple[int, int], title: str | None = None) -> Html:
    """Return an image of `size` (height, width) pixels; the text stands in where it cannot be seen."""
    height, width = size
    return element("img", {"src": uri, "alt": alt, "width": str(width), "height": str(height), "title": title})


def figure(content: str, caption: str, style: str | None = None) -> Html:
    """Return a figure with its caption."""
    return element("figure", {"class": style}, content, element("figcaption", None, caption))


def settings_table(rows: Mapping[str, str], caption: str) -> Html:
    """Return a two-column table of names and values; the caption is for screen readers and print."""
    body = [
        element("tr", None, element("th", {"scope": "row"}, name), element("td", None, value))
        for name, value in rows.items()
    ]
    table = element(
        "table",
        {"class": "settings"},
        element("caption", None, caption),
        element("tbody", None, *body),
    )
    return element("div", {"class": "scroll"}, table)


def section(identifier: str, heading: str, *children: str) -> Html:
    """Return a section with a second-level heading that the contents list can link to."""
    title = element("h2", {"id": f"{identifier}-heading"}, heading)
    return element("section", {"id": identifier, "aria-labelledby": f"{identifier}-heading"}, title, *children)
