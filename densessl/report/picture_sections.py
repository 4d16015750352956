"""The sections made of pictures: predictions beside labels, cluster strips, masks and rejected images."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from densessl.report.cluster_naming import name_field, naming_form
from densessl.report.contents import (
    UNMATCHED,
    Clustering,
    ClusterStrip,
    Comparison,
    MaskGallery,
    Picture,
    ReportContents,
)
from densessl.report.markup import Html, element, figure, image, join, paragraph, section, settings_table
from densessl.report.overlays import binary_picture, paint, plain_photo, spotlight
from densessl.report.score_section import swatch
from densessl.report.thumbnails import data_uri
from densessl.structures import IGNORE, ImageArray, LabelMap, Rejection

MAX_LISTED_REJECTIONS = 200
MIN_NAMED_SHARE = 0.0005


def prediction_section(contents: ReportContents) -> Html | None:
    """Return the images with their mask, prediction and label side by side."""
    items = contents.comparisons
    if not items:
        return None
    has_label = any(item.label is not None for item in items)
    heading = "Predictions beside labels" if has_label else "Predictions"
    drawn = f"{len(items)} of {contents.num_comparable:,} images, drawn at random and not chosen by quality. "
    colours = (
        "Colours are classes: each cluster is painted as the class it was matched to."
        if contents.scores is not None
        else "Colours are clusters; without labels they have numbers, or the names in clusters/names.yaml."
    )
    rows = [_comparison_row(item, items, contents) for item in items]
    return section("predictions", heading, paragraph(drawn, colours), _legend(items, contents.value_names), *rows)


def cluster_section(contents: ReportContents) -> Html | None:
    """Return one strip of the nearest members per cluster, with a field for its name."""
    clustering = contents.clustering
    if clustering is None or not clustering.strips:
        return None
    largest = max(strip.size for strip in clustering.strips)
    text = "Nearest members first, cropped around the part that belongs to the cluster; the bar shows its size. "
    if len(clustering.strips) < clustering.num_clusters:
        text += f"The {len(clustering.strips)} largest of {clustering.num_clusters} clusters are shown."
    strips = [_strip(strip, largest) for strip in clustering.strips]
    parts: list[Html] = [paragraph(text), naming_form(clustering), element("div", {"class": "strips"}, *strips)]
    settings = _clustering_settings(clustering, contents.scores.protocol if contents.scores else {})
    if settings:
        parts.append(settings_table(settings, "How the clusters were made"))
    return section("clusters", "Clusters", *parts)


def mask_section(contents: ReportContents) -> Html | None:
    """Return the gallery of proposed masks and the rejected images with their reasons."""
    gallery = contents.gallery
    if gallery is None:
        return None
    parts: list[Html] = []
    if gallery.pictures:
        text = f"{len(gallery.pictures)} of {gallery.num_masks:,} masks, drawn at random and sorted from the "
        parts.append(paragraph(text, "smallest foreground to the largest. The outline is the proposed mask."))
        parts.append(element("div", {"class": "gallery"}, *(_gallery_item(item) for item in gallery.pictures)))
    parts += _rejections(gallery)
    if gallery.settings:
        parts.append(settings_table(gallery.settings, "How the masks were made"))
    return section("masks", "Masks", *parts)


def named_values(label_map: LabelMap, names: Mapping[int, str]) -> list[tuple[int, str]]:
    """Return the values that cover at least 0.05 % of the map, largest first, without background and ignored."""
    values, counts = np.unique(label_map, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    kept = [int(values[index]) for index in order if counts[index] >= MIN_NAMED_SHARE * label_map.size]
    return [(value, _value_name(value, names)) for value in kept if value not in {0, IGNORE}]


def _value_name(value: int, names: Mapping[int, str]) -> str:
    if value == UNMATCHED:
        return "no class"
    return "not scored" if value == IGNORE else names.get(value, f"class {value}")


def _legend(items: Sequence[Comparison], names: Mapping[int, str]) -> Html:
    maps = [values for item in items for values in (item.before, item.after, item.label) if values is not None]
    present = sorted({int(value) for label_map in maps for value in np.unique(label_map)} - {0})
    order = [value for value in present if value not in {IGNORE, UNMATCHED}]
    order += [value for value in (UNMATCHED, IGNORE) if value in present]
    entries = [element("li", None, swatch(value), _value_name(value, names)) for value in order]
    return element("ul", {"class": "legend-list", "aria-label": "Colours"}, *entries)


def _comparison_row(item: Comparison, items: Sequence[Comparison], contents: ReportContents) -> Html:
    names = contents.value_names
    cells: list[Html] = []
    if any(other.photo is not None for other in items):
        cells.append(_cell("photograph", item.photo, f"Photograph {item.stem}"))
    if any(other.mask is not None for other in items):
        drawn = None if item.mask is None else binary_picture(item.mask)
        cells.append(_cell("mask", drawn, f"Proposed mask of {item.stem}"))
    columns = (
        ("before pretraining", [other.before for other in items], item.before),
        ("prediction", [other.after for other in items], item.after),
        ("label", [other.label for other in items], item.label),
    )
    for column, others, label_map in columns:
        if any(other is not None for other in others):
            cells.append(_map_cell(column, item, label_map, names))
    caption = element("span", {"class": "stem"}, item.stem)
    return figure(element("div", {"class": f"comparison n{len(cells)}"}, *cells), join([caption, _agreement(item)]))


def _cell(name: str, pixels: ImageArray | None, alt: str, chips: Html | str = "") -> Html:
    if pixels is None:
        shown = element("div", {"class": "missing"}, "none")
    else:
        shown = image(data_uri(pixels), alt, (pixels.shape[0], pixels.shape[1]))
    return element("div", {"class": "cell"}, element("div", {"class": "cell-name"}, name), shown, chips)


def _map_cell(name: str, item: Comparison, label_map: LabelMap | None, names: Mapping[int, str]) -> Html:
    if label_map is None:
        return _cell(name, None, "")
    found = named_values(label_map, names)
    chips = [element("span", None, swatch(value), text) for value, text in found]
    chips = chips or [element("span", {"class": "quiet"}, "background only")]
    words = ", ".join(text for _, text in found) or "background only"
    pixels = paint(plain_photo(label_map.shape) if item.photo is None else item.photo, label_map)
    return _cell(name, pixels, f"{name} for {item.stem}: {words}", element("div", {"class": "chips"}, *chips))


def _agreement(item: Comparison) -> str:
    if item.label is None or item.after is None:
        return ""
    counted = item.label != IGNORE
    if not counted.any():
        return ""
    share = float((item.label == item.after)[counted].mean())
    return f" · {100 * share:.0f} % of the scored pixels agree with the label"


def _strip(strip: ClusterStrip, largest: int) -> Html:
    matched = element("span", {"class": "matched"}, strip.matched_class) if strip.matched_class else ""
    width = 100 * strip.size / largest if largest else 0
    bar = element(
        "span",
        {"class": "bar", "aria-hidden": "true"},
        element("span", {"class": "bar-fill", "style": f"width:{width:.1f}%"}),
    )
    title = f"Cluster {strip.cluster}: {strip.name}" if strip.name else f"Cluster {strip.cluster}"
    members = "1 member" if strip.size == 1 else f"{strip.size:,} members"
    head = element(
        "div",
        {"class": "strip-head"},
        element("h3", None, title, " " if matched else "", matched),
        name_field(strip),
        bar,
        element("span", {"class": "size"}, members),
        element("span", {"class": "size"}, _distances(strip)),
    )
    tiles = [_tile(member, strip.cluster) for member in strip.members]
    return element("div", {"class": "strip"}, head, element("div", {"class": "tiles"}, *tiles))


def _distances(strip: ClusterStrip) -> str:
    known = [distance for distance in strip.distances if distance is not None]
    return f"distance {min(known):.2f}–{max(known):.2f}" if known else ""


def _tile(member: Picture, cluster: int) -> Html:
    pixels = _outlined(member)
    if pixels is None:
        return element("div", {"class": "missing", "title": member.stem}, "gone")
    alt = f"Member of cluster {cluster}: {member.stem}"
    return image(data_uri(pixels), alt, (pixels.shape[0], pixels.shape[1]), member.stem)


def _outlined(picture: Picture) -> ImageArray | None:
    if picture.photo is None:
        return None if picture.mask is None else binary_picture(picture.mask)
    return picture.photo if picture.mask is None else spotlight(picture.photo, picture.mask)


def _clustering_settings(clustering: Clustering, told: Mapping[str, str]) -> dict[str, str]:
    """Return what made the clusters, less what the protocol of the scores told already."""
    seeds = {"seeds": clustering.seeds} if clustering.seeds else {}
    measures = {"stability": clustering.stability, "silhouette": clustering.silhouette}
    shown = {name: f"{value:.3f}" for name, value in measures.items() if value is not None}
    return {
        **{name: value for name, value in clustering.protocol.items() if name not in told},
        **seeds,
        **shown,
    }


def _gallery_item(picture: Picture) -> Html:
    pixels = _outlined(picture)
    if pixels is None or picture.mask is None:
        return figure(element("div", {"class": "missing"}, "gone"), picture.stem, "lost")
    percent = 100 * float(picture.mask.mean())
    share = f"{percent:.1f} %" if percent < 1 else f"{percent:.0f} %"
    shown = image(data_uri(pixels), f"Mask of {picture.stem}", (pixels.shape[0], pixels.shape[1]))
    return _tile_figure(shown, picture.stem, share, pixels)


def _tile_figure(shown: Html, stem: str, detail: str, pixels: ImageArray) -> Html:
    """A figure as wide as its aspect ratio asks, so that all pictures of one row have the same height."""
    caption = element("figcaption", None, element("span", {"class": "stem"}, stem), " ", element("span", None, detail))
    aspect = f"--aspect:{pixels.shape[1] / pixels.shape[0]:.3f}"
    return element("figure", {"style": aspect}, shown, caption)


def _rejections(gallery: MaskGallery) -> list[Html]:
    if not gallery.rejected:
        return []
    groups: dict[str, list[Rejection]] = defaultdict(list)
    for rejection in gallery.rejected:
        groups[re.sub(r"\d+(\.\d+)?", "#", rejection.reason)].append(rejection)
    ordered = sorted(groups.values(), key=len, reverse=True)
    rows = [
        element(
            "tr",
            None,
            element("td", {"class": "number"}, f"{len(group):,}"),
            element("td", None, _example(group)),
        )
        for group in ordered
    ]
    head = element(
        "tr",
        None,
        element("th", {"scope": "col", "class": "number"}, "Images"),
        element("th", {"scope": "col"}, "Reason"),
    )
    table = element("table", {"class": "reasons"}, element("thead", None, head), element("tbody", None, *rows))
    reasons = {rejection.stem: rejection.reason for rejection in gallery.rejected}
    pictures = [_rejected_picture(picture, reasons[picture.stem]) for picture in gallery.rejected_pictures]
    parts = [
        element("h3", None, f"Rejected: {len(gallery.rejected):,}"),
        element("div", {"class": "scroll"}, table),
    ]
    if pictures:
        parts.append(element("div", {"class": "gallery"}, *pictures))
    parts.append(_rejection_list(gallery.rejected))
    return parts


def _example(group: Sequence[Rejection]) -> str:
    same = all(rejection.reason == group[0].reason for rejection in group)
    return group[0].reason if same else f"{group[0].reason}, and similar"


def _rejected_picture(picture: Picture, reason: str) -> Html:
    pixels = _outlined(picture)
    if pixels is None:
        return figure(element("div", {"class": "missing"}, "gone"), f"{picture.stem}: {reason}", "lost")
    shown = image(data_uri(pixels), f"Rejected image {picture.stem}", (pixels.shape[0], pixels.shape[1]))
    return _tile_figure(shown, picture.stem, reason, pixels)


def _rejection_list(rejected: Sequence[Rejection]) -> Html:
    listed = [f"{rejection.stem}: {rejection.reason}" for rejection in rejected[:MAX_LISTED_REJECTIONS]]
    if len(rejected) > len(listed):
        listed.append(f"… and {len(rejected) - len(listed):,} more in rejected.json")
    items = [element("li", None, text) for text in listed]
    return element(
        "details",
        None,
        element("summary", None, "All rejected images"),
        element("ul", {"class": "remarks"}, *items),
    )
