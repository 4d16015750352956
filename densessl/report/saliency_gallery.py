"""Writes the gallery of a folder of proposed masks: one HTML file with everything inside, readable without network."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from densessl.files import write_bytes
from densessl.report.markup import Html, element, join, paragraph, section
from densessl.report.page_head import html_document, page_footer, page_head
from densessl.report.saliency_gallery_cards import (
    browse_section,
    cards_grid,
    extremes_section,
    mask_card,
    rejected_card,
)
from densessl.report.saliency_gallery_charts import count_histogram, share_histogram, unit_histogram
from densessl.report.saliency_gallery_contents import SaliencyGallery
from densessl.report.saliency_gallery_header import gallery_header


def write_saliency_gallery(gallery: SaliencyGallery, path: Path) -> Path:
    """Write the page atomically and return its path; raises `InputError` where it cannot be written."""
    write_bytes(path, render(gallery).encode("utf-8", errors="replace"))  # file names need not be valid Unicode
    return path


def render(gallery: SaliencyGallery) -> str:
    """Return the page as one HTML document; sections without contents are left out."""
    sections = [(name, part) for name, part in _sections(gallery) if part is not None]
    skip = element("a", {"class": "skip", "href": "#main"}, "Skip to the pictures")
    main = element("main", {"id": "main"}, *(part for _, part in sections))
    script = (files("densessl.report") / "saliency_gallery.js").read_text(encoding="utf-8")
    inline = join([Html("<script>"), Html(script), Html("</script>")])
    header = gallery_header(gallery, [name for name, _ in sections])
    body = element("body", None, skip, header, main, page_footer(), inline)
    head = page_head(f"{gallery.title} · densessl saliency gallery", script, "saliency_gallery.css")
    return html_document(head, body)


def _sections(gallery: SaliencyGallery) -> list[tuple[tuple[str, str], Html | None]]:
    """Return identifier, name and contents of every section, in the page's order."""
    facts, thumbnails, scores = gallery.masks.facts, gallery.thumbnails, gallery.scores
    ious = {} if scores is None else scores.ious
    cards = [mask_card(facts[stem], thumbnails[stem], ious.get(stem)) for stem in gallery.sample]
    browse = browse_section(cards, len(facts), scores is not None) if cards else None
    return [
        (("numbers", "Numbers"), _numbers_section(gallery)),
        (("browse", "Masks at random" if len(cards) < len(facts) else "Masks"), browse),
        *(
            ((chosen.identifier, chosen.heading), extremes_section(chosen, facts, thumbnails, scores))
            for chosen in gallery.extremes
        ),
        (("rejected", "Rejected"), _rejected_section(gallery)),
    ]


def _numbers_section(gallery: SaliencyGallery) -> Html | None:
    facts = gallery.masks.facts.values()
    if not facts:
        return None
    charts = [share_histogram(np.array([item.area_share for item in facts]), "Area of the mask", "masks")]
    if gallery.masks.part_scores.size:
        charts.append(unit_histogram(gallery.masks.part_scores, "Score of the proposals", "proposals"))
    charts.append(count_histogram(np.array([item.num_parts for item in facts]), "Parts of the mask", "masks"))
    if gallery.scores is not None:
        ious = np.array(list(gallery.scores.ious.values()))
        charts.append(unit_histogram(ious, "IoU with the labels", "labelled images"))
    style = "charts four" if len(charts) == 4 else "charts"
    return section("numbers", "Numbers", element("div", {"class": style}, *charts))


def _rejected_section(gallery: SaliencyGallery) -> Html | None:
    if not gallery.rejected:
        return None
    num = len(gallery.masks.rejected)
    shown = f"{len(gallery.rejected):,} of {num:,}, every reason in turn" if len(gallery.rejected) < num else "All"
    cards = [rejected_card(rejection, gallery.thumbnails[rejection.stem]) for rejection in gallery.rejected]
    text = paragraph(f"{shown}. rejected.json lists each with its reason.")
    return section("rejected", "Rejected", text, cards_grid(cards))
