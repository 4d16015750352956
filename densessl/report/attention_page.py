"""The page of `attention`: contact sheets, which head agrees with masks, sharpness against resolution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densessl.files import write_bytes
from densessl.report.charts import line_chart
from densessl.report.contents import Curve
from densessl.report.markup import Html, figure, image, paragraph, section, settings_table
from densessl.report.page_head import PageOpening, left_out_section, plain_page
from densessl.report.thumbnails import data_uri
from densessl.structures import ImageArray, Rejection

SHARPNESS_TEXT = (
    "Distance, in pixels of the photograph as it is stored, at which two patches differ half as much as any two of the "
    "image: the smaller, the finer are the things that the features tell apart. Mean over the images that have one at "
    "every size."
)
IOU_TEXT = (
    "Overlap of the patches that hold the stated share of a head's attention with the given masks, mean over images. "
    "Nothing learned from the masks; where they were made without labels, the best head is chosen without labels."
)


@dataclass(frozen=True)
class SheetPicture:
    """The contact sheet of an image."""

    stem: str
    sheet: ImageArray


@dataclass(frozen=True)
class AttentionPage:
    """What the page shows.

    title: of the page. facts: encoder, weights, layer and so on. notes: sentences. sheets: those that are shown.
    num_images: how many there are in all. head_ious: by the name of a head, the mean IoU with masks over num_with_masks
    images; empty without masks. sharpness: mean distance in pixels by size in pixels. rejected: images left out.
    """

    title: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    sheets: Sequence[SheetPicture]
    num_images: int
    head_ious: Mapping[str, float]
    num_with_masks: int
    sharpness: Mapping[int, float]
    rejected: Sequence[Rejection]


def write_attention_page(page: AttentionPage, path: Path) -> Path:
    """Write the page atomically and return its path; raises `InputError` where it cannot be written."""
    write_bytes(path, render(page).encode("utf-8", errors="replace"))
    return path


def render(page: AttentionPage) -> str:
    """Return the page as one HTML document; sections without contents are left out."""
    lead = f"What the encoder looks at, and what its features tell apart. {_labels(page)}"
    opening = PageOpening("attention", page.title, lead, page.notes, page.facts, "Encoder and settings")
    sections = [_sheet_section(page), _iou_section(page), _sharpness_section(page), left_out_section(page.rejected)]
    return plain_page(opening, sections)


def _labels(page: AttentionPage) -> str:
    if page.head_ious:
        return "Nothing read a label, unless the masks that heads are compared with hold labels."
    return "No label was read."


def _sheet_section(page: AttentionPage) -> Html | None:
    if not page.sheets:
        return None
    shown = "" if len(page.sheets) == page.num_images else f"{len(page.sheets)} of {page.num_images:,} images. "
    text = (
        f"{shown}Squares are patches. Every map has its own scale, whose ends stand above it. "
        "The colours of principal components mean the same in all images."
    )
    figures = [
        figure(
            image(data_uri(item.sheet), f"Contact sheet of {item.stem}", (item.sheet.shape[0], item.sheet.shape[1])),
            item.stem,
        )
        for item in page.sheets
    ]
    return section("sheets", "Contact sheets", paragraph(text), *figures)


def _iou_section(page: AttentionPage) -> Html | None:
    if not page.head_ious:
        return None
    best = max(value for name, value in page.head_ious.items() if name.startswith("head "))
    rows = {
        name: f"{value:.3f}" + (" (best)" if value == best and name.startswith("head ") else "")
        for name, value in page.head_ious.items()
    }
    table = settings_table(rows, f"IoU with masks, {page.num_with_masks:,} images")
    return section("heads", "Heads against masks", paragraph(IOU_TEXT), table)


def _sharpness_section(page: AttentionPage) -> Html | None:
    known = {size: value for size, value in page.sharpness.items() if np.isfinite(value)}
    if not known:
        return None
    curve = Curve("half distance", tuple(map(float, known)), tuple(known.values()))
    chart = line_chart([curve], "Half distance of features, pixels", "long side of the input, pixels")
    return section("sharpness", "Sharpness against resolution", paragraph(SHARPNESS_TEXT), chart)
