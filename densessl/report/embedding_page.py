"""The page of `embedding_space`: the map, strips of neighbours, the clusters, and what was left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from densessl.files import write_bytes
from densessl.report.markup import Html, figure, image, paragraph, section, settings_table
from densessl.report.page_head import PageOpening, left_out_section, plain_page
from densessl.report.thumbnails import data_uri
from densessl.structures import ImageArray, Rejection

MAP_TEXT = (
    "Every mask of the data set by its prototype, the mean of the features that it covers. Masks stand where the "
    "projection puts them; a thumbnail that would hide another is left out, and its mask is a mark. Frames, marks and "
    "numbers say the cluster. Thumbnails are the medoids of the clusters and others drawn at random."
)
STRIP_TEXT = (
    "Left the mask that was asked for, then the masks of other images that are most similar to it, with the cosine of "
    "their prototypes below. Frame and number say the cluster."
)
MAP_NAME = "map"


@dataclass(frozen=True)
class PageStrip:
    """A strip of neighbours: its picture, and in words what it shows."""

    picture: ImageArray
    caption: str


@dataclass(frozen=True)
class EmbeddingPage:
    """What the page shows.

    title: of the page. facts: encoder, masks and so on. notes: sentences. thumbnails, marks: the two maps.
    projection: how the plane is to be read. strips: by heading. clusters: by name, what is said of each.
    rejected: images and masks left out.
    """

    title: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    thumbnails: ImageArray
    marks: ImageArray
    projection: str
    strips: Mapping[str, Sequence[PageStrip]]
    clusters: Mapping[str, str]
    rejected: Sequence[Rejection]


def write_embedding_page(page: EmbeddingPage, path: Path) -> Path:
    """Write the page atomically and return its path; raises `InputError` where it cannot be written."""
    write_bytes(path, render(page).encode("utf-8", errors="replace"))
    return path


def render(page: EmbeddingPage) -> str:
    """Return the page as one HTML document; sections without contents are left out."""
    lead = "Which masks an encoder holds to be alike. No label was read."
    opening = PageOpening("embedding_space", page.title, lead, page.notes, page.facts, "Encoder and settings")
    sections = [_map_section(page), *_strip_sections(page), _cluster_section(page), left_out_section(page.rejected)]
    return plain_page(opening, sections)


def _map_section(page: EmbeddingPage) -> Html:
    return section(
        MAP_NAME,
        "Map",
        paragraph(f"{MAP_TEXT} {page.projection}"),
        _figure(page.thumbnails, "Masks as thumbnails and marks."),
        _figure(page.marks, "All masks as marks; the number of a cluster stands at its medoid."),
    )


def _strip_sections(page: EmbeddingPage) -> list[Html]:
    return [
        section(f"strips-{number}", heading, paragraph(STRIP_TEXT), *(_figure(s.picture, s.caption) for s in strips))
        for number, (heading, strips) in enumerate(page.strips.items())
        if strips
    ]


def _cluster_section(page: EmbeddingPage) -> Html:
    return section("clusters", "Clusters", settings_table(page.clusters, "Masks and medoid of each cluster"))


def _figure(picture: ImageArray, caption: str) -> Html:
    return figure(image(data_uri(picture), caption, (picture.shape[0], picture.shape[1])), caption)
