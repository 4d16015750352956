"""The head of a page: its styles, and a policy that lets nothing run or load but what the page holds itself."""

import base64
import hashlib
from importlib.resources import files

from densessl.report.markup import Html, element


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
