"""The gallery's cards: one picture each with its numbers, in grids; and the grid that can be searched and sorted."""

from collections.abc import Iterable, Mapping, Sequence

from densessl.report.markup import Html, element, image, join, paragraph, section
from densessl.report.saliency_gallery_choice import Extremes
from densessl.report.saliency_gallery_records import LabelScores, MaskFacts
from densessl.report.saliency_gallery_thumbnails import Thumbnail
from densessl.structures import Rejection

STRESSED = {
    "best": "iou",
    "worst": "iou",
    "surest": "score",
    "least-sure": "score",
    "largest": "area",
    "smallest": "area",
    "many-parts": "parts",
    "border": "edges",
}
"""The number that a section is sorted by; its cards show it in bold."""

SHOWN = {
    "sample": "the random sample",
    "all": "every picture on this page",
    "border": "masks that touch the border",
    "rejected": "rejected images",
}
SORTED = {
    "stem": "name",
    "-score": "score, highest first",
    "score": "score, lowest first",
    "-area": "area, largest first",
    "area": "area, smallest first",
    "-parts": "parts, most first",
    "parts": "parts, fewest first",
}
SORTED_BY_LABELS = {"-iou": "IoU, best first", "iou": "IoU, worst first"}


def mask_card(facts: MaskFacts, thumbnail: Thumbnail, iou: float | None, stressed: str | None = None) -> Html:
    """Return the card of an image with a mask; `stressed` is the number to show in bold."""
    numbers = {
        "iou": "" if iou is None else f"IoU {iou:.2f}",
        "score": f"score {facts.score:.2f}",
        "area": f"area {share_text(facts.area_share)}",
        "parts": "" if facts.num_parts == 1 else f"{facts.num_parts} parts",
        "edges": "" if stressed != "edges" else "1 edge" if facts.num_edges == 1 else f"{facts.num_edges} edges",
    }
    shown = [
        element("span", {"class": "stressed" if name == stressed else None}, text)
        for name, text in numbers.items()
        if text
    ]
    spaced = [part for piece in shown for part in (piece, " ")][:-1]
    data = {
        "data-score": f"{facts.score:.6g}",
        "data-area": f"{100 * facts.area_share:.6g}",
        "data-parts": str(facts.num_parts),
        "data-edges": str(facts.num_edges),
        "data-iou": None if iou is None else f"{iou:.6g}",
    }
    alt = f"{facts.stem}: photograph with its mask, {share_text(facts.area_share)} of it, score {facts.score:.2f}"
    return _card(facts.stem, thumbnail, alt, join(spaced), data)


def rejected_card(rejection: Rejection, thumbnail: Thumbnail) -> Html:
    """Return the card of a rejected image with the reason."""
    alt = f"{rejection.stem}: photograph, rejected"
    if thumbnail.problem is not None:  # then the two would say the same twice
        thumbnail = Thumbnail(problem="cannot be shown")
    return _card(rejection.stem, thumbnail, alt, rejection.reason, {"data-rejected": "1"})


def extremes_section(
    extremes: Extremes,
    facts: Mapping[str, MaskFacts],
    thumbnails: Mapping[str, Thumbnail],
    scores: LabelScores | None,
) -> Html:
    """Return one section of extremes; the script adds its cards to the grid that can be searched."""
    ious = {} if scores is None else scores.ious
    stressed = STRESSED[extremes.identifier]
    cards = [mask_card(facts[stem], thumbnails[stem], ious.get(stem), stressed) for stem in extremes.stems]
    return section(extremes.identifier, extremes.heading, paragraph(extremes.text), cards_grid(cards))


def browse_section(cards: Sequence[Html], num_masks: int, has_ious: bool) -> Html:
    """Return the random sample as a plain grid, above it the controls, hidden until the script can serve them."""
    if len(cards) < num_masks:
        text = f"{len(cards):,} of {num_masks:,} masks, drawn at random and not chosen by quality. "
    else:
        text = f"All {num_masks:,} masks. "
    return section(
        "browse",
        "Masks at random" if len(cards) < num_masks else "Masks",
        paragraph(text, "The outline is the proposed mask; what lies outside is grey."),
        _controls(has_ious),
        element("div", {"class": "cards", "id": "browse-grid"}, *cards),
        element("button", {"type": "button", "class": "more", "id": "browse-more", "hidden": ""}, "Show more"),
    )


def cards_grid(cards: Iterable[Html]) -> Html:
    """Return cards side by side in as many columns as there is room for."""
    return element("div", {"class": "cards"}, *cards)


def share_text(share: float) -> str:
    """Return a share in [0, 1] in percent, with a decimal where it is below 1 %."""
    return f"{100 * share:.1f} %" if share < 0.01 else f"{100 * share:.0f} %"


def _card(stem: str, thumbnail: Thumbnail, alt: str, detail: str, data: Mapping[str, str | None]) -> Html:
    """Return a figure whose data attributes are what the script sorts and filters by."""
    if thumbnail.problem is None:
        picture = image(thumbnail.uri, alt, thumbnail.size)
    else:
        reason = element("span", None, thumbnail.problem)
        picture = element("div", {"class": "missing", "title": thumbnail.problem}, reason)
    caption = element(
        "figcaption",
        None,
        element("span", {"class": "stem", "title": stem}, stem),
        element("span", {"class": "numbers"}, detail),
    )
    return element("figure", {"class": "card", "data-stem": stem, **data}, picture, caption)


def _controls(has_ious: bool) -> Html:
    sorted_by = {**SORTED, **(SORTED_BY_LABELS if has_ious else {})}
    fields = [
        _labelled("Show", _select("browse-show", SHOWN), "browse-show"),
        _labelled("Sort by", _select("browse-sort", sorted_by), "browse-sort"),
        _labelled(
            "Name contains",
            _input("browse-text", {"type": "search", "autocomplete": "off", "spellcheck": "false"}),
            "browse-text",
        ),
        _slider("Area from", "browse-low", "0"),
        _slider("Area to", "browse-high", "100"),
        element("button", {"type": "reset"}, "Reset"),
    ]
    status = element("output", {"class": "status", "id": "browse-status", "role": "status"})
    return element(
        "form",
        {"class": "controls", "id": "browse-controls", "hidden": "", "aria-label": "Filter and sort the pictures"},
        *fields,
        status,
    )


def _labelled(name: str, control: Html, identifier: str) -> Html:
    return element("div", {"class": "field"}, element("label", {"for": identifier}, name), control)


def _select(identifier: str, options: Mapping[str, str]) -> Html:
    entries = [element("option", {"value": value}, name) for value, name in options.items()]
    return element("select", {"id": identifier}, *entries)


def _input(identifier: str, attributes: Mapping[str, str]) -> Html:
    return element("input", {"id": identifier, **attributes})


def _slider(name: str, identifier: str, value: str) -> Html:
    control = _input(identifier, {"type": "range", "min": "0", "max": "100", "step": "1", "value": value})
    shown = element("output", {"id": f"{identifier}-value", "for": identifier}, f"{value} %")
    label = element("label", {"for": identifier}, f"{name} ", shown)
    return element("div", {"class": "field"}, label, control)
