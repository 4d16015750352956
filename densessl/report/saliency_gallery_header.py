"""The top of the gallery: how many masks, how they were made, which labels touched them, what was rejected."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densessl.report.markup import Html, element, paragraph, settings_table
from densessl.report.saliency_gallery_cards import share_text
from densessl.report.saliency_gallery_contents import SaliencyGallery
from densessl.report.saliency_gallery_records import LabelScores, ProposedMasks
from densessl.structures import Rejection

MAX_LISTED_REASONS = 12


def gallery_header(gallery: SaliencyGallery, links: Sequence[tuple[str, str]]) -> Html:
    """Return the title, the large numbers, how the masks were made, why images were rejected, and the links."""
    entries = [element("li", None, element("a", {"href": f"#{identifier}"}, name)) for identifier, name in links]
    tables = [settings_table(_settings(gallery), "How the masks were made")]
    if gallery.reasons:
        tables.append(_reasons_table(gallery.reasons))
    parts = [
        paragraph("densessl saliency gallery", style="overline"),
        element("h1", None, gallery.title),
        paragraph(_summary(gallery.masks), style="lead"),
        element("dl", {"class": "figures"}, *_figures(gallery)),
    ]
    if gallery.scores is not None:
        parts.append(paragraph(_labels_note(gallery.scores), style="note"))
    parts += [
        element("div", {"class": "columns"}, *tables),
        element("nav", {"aria-label": "Sections"}, element("ul", None, *entries)),
    ]
    return element("header", None, *parts)


def _summary(masks: ProposedMasks) -> str:
    images = "1 image" if masks.num_images == 1 else f"{masks.num_images:,} images"
    made = "1 mask" if len(masks.facts) == 1 else f"{len(masks.facts):,} masks"
    rejected = f"{len(masks.rejected):,}" if masks.rejected else "none"
    return f"{images}, {made}, {rejected} rejected."


def _labels_note(scores: LabelScores) -> str:
    return (
        f"Labels were used on this page: the sections best and worst, and every IoU, come from {scores.file_name}, "
        "which compares the masks with labels. All other sections are chosen without."
    )


def _figures(gallery: SaliencyGallery) -> list[Html]:
    masks = gallery.masks
    rejected = f"{share_text(len(masks.rejected) / masks.num_images)} of the images" if masks.rejected else "no image"
    figures = [
        _figure("masks", f"{len(masks.facts):,}", f"of {masks.num_images:,} images", "main"),
        _figure("rejected", f"{len(masks.rejected):,}", rejected),
    ]
    if masks.facts:
        area = float(np.median([item.area_share for item in masks.facts.values()]))
        score = float(np.median([item.score for item in masks.facts.values()]))
        figures.append(_figure("median area", share_text(area).removesuffix(" %"), "of the image", unit="%"))
        figures.append(_figure("median score", f"{score:.2f}", "from 0 to 1"))
    if gallery.images_per_second is not None:
        figures.append(_figure("images a second", f"{gallery.images_per_second:.1f}", "in this run"))
    scores = gallery.scores
    if scores is not None:
        error = "" if scores.standard_error is None else f"± {scores.standard_error:.3f}, "
        figures.append(_figure("mean IoU", f"{scores.mean_iou:.3f}", f"{error}{scores.num_images:,} labelled images"))
    return figures


def _figure(name: str, value: str, detail: str, style: str | None = None, unit: str = "") -> Html:
    number = element("dd", {"class": "value"}, value, element("small", None, unit) if unit else "")
    return element(
        "div", {"class": style}, element("dt", None, name), number, element("dd", {"class": "detail"}, detail)
    )


def _settings(gallery: SaliencyGallery) -> dict[str, str]:
    settings = gallery.masks.settings
    names = {"method": "Method", "refine": "Refinement", "threshold": "Threshold"}
    rows = {name: str(settings[key]) for key, name in names.items() if key in settings}
    areas = {"min_area": "Smallest part allowed", "max_area": "Largest mask allowed"}
    rows |= {name: f"{settings[key]} of the image" for key, name in areas.items() if key in settings}
    if settings.get("method") == "file" and gallery.masks.features is not None:
        rows["Read as"] = str(gallery.masks.features.get("encoding"))
    elif settings.get("network") is not None:
        rows["Network"] = Path(str(settings.get("network"))).name
    elif gallery.masks.features is not None:
        weights = settings.get("weights")
        source = "published by timm" if weights is None else Path(str(weights)).name
        rows["Features"] = f"{settings.get('encoder')}, weights {source}"
    if settings.get("num_segments") is not None:
        rows["Parts, areas and scores"] = f"of {settings['num_segments']} segments, not of the mask drawn"
    if gallery.images_per_second is not None:
        rows["Throughput"] = f"{gallery.images_per_second:.1f} images a second"
    rows["Labels that touched the masks"] = gallery.provenance
    read = "none" if gallery.scores is None else f"those behind {gallery.scores.file_name}"
    return {**rows, "Labels read for this page": read}


def _reasons_table(reasons: Sequence[Sequence[Rejection]]) -> Html:
    rows = [(len(group), _example(group)) for group in reasons[:MAX_LISTED_REASONS]]
    others = sum(map(len, reasons[MAX_LISTED_REASONS:]))
    if others:
        rows.append((others, "other reasons: rejected.json lists all"))
    body = [
        element("tr", None, element("td", {"class": "number"}, f"{num:,}"), element("td", None, reason))
        for num, reason in rows
    ]
    caption = element("caption", None, "Why images were rejected")
    head = element(
        "tr",
        None,
        element("th", {"scope": "col", "class": "number"}, "Images"),
        element("th", {"scope": "col"}, "Reason"),
    )
    table = element("table", {"class": "reasons"}, caption, element("thead", None, head), element("tbody", None, *body))
    return element("div", {"class": "scroll"}, table)


def _example(group: Sequence[Rejection]) -> str:
    same = all(rejection.reason == group[0].reason for rejection in group)
    return group[0].reason if same else f"{group[0].reason}, and similar"
