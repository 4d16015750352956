"""What `embedding_space` draws: the two maps, and a strip for each mask whose neighbours are shown."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from densessl.commands.embedded_masks import EmbeddedMasks
from densessl.commands.embedding_clusters import MaskClusters
from densessl.commands.embedding_strips import Strip
from densessl.data.images import read_image
from densessl.data.label_maps import read_label_map
from densessl.errors import InputError
from densessl.evaluation.plane import Plane
from densessl.files import write_atomically
from densessl.report.embedding_map import THUMBNAIL_PX, MapLayout, MaskMap, draw_map, draw_marks, lay_out
from densessl.report.embedding_page import PageStrip
from densessl.report.mask_crops import crop_size, cut_out
from densessl.report.neighbour_strip import TILE_PX, StripTile, draw_strip
from densessl.report.overlays import plain_photo
from densessl.structures import ImageArray, ImageRef

MAP_FILE, MARKS_FILE = "map.png", "marks.png"

_HEADINGS = {
    "asked for": "{name}, {cluster}",
    "medoid": "{name}, medoid of {cluster}",
    "least typical": "{name}, little like the others of {cluster}",
}


@dataclass(frozen=True)
class Space:
    """Masks, their clusters, their places in the plane, the medoid of each cluster, and neighbours of some."""

    masks: EmbeddedMasks
    clusters: MaskClusters
    plane: Plane
    medoids: Mapping[int, int]
    strips: Sequence[Strip]


@dataclass(frozen=True)
class DrawnSpace:
    """The pictures of the page, and which rows are thumbnails on the map. strips: by kind."""

    map: ImageArray
    marks: ImageArray
    strips: dict[str, list[PageStrip]]
    thumbnails: tuple[int, ...]


def draw_space(out: Path, refs: Iterable[ImageRef], space: Space) -> DrawnSpace:
    """Draw maps and strips, and write them below `out`; each photograph that is on one of them is read once.

    Strips of an earlier call are removed.
    """
    shutil.rmtree(out / "neighbours", ignore_errors=True)
    masks, strips = space.masks, space.strips
    mask_map = _map_of(space)
    layout = lay_out(mask_map)
    in_strips = {row for strip in strips for row in (strip.row, *strip.neighbours)}
    wanted: dict[int, tuple[int, ...]] = dict.fromkeys(layout.thumbnails, (THUMBNAIL_PX,))
    for row in in_strips:
        wanted[row] = (*wanted.get(row, ()), TILE_PX)
    crops = _cut_all({ref.stem: ref for ref in refs}, masks, wanted, out / "masks")
    drawn = _draw_maps(out, mask_map, layout, {row: crops[row, THUMBNAIL_PX] for row in layout.thumbnails})
    pages: dict[str, list[PageStrip]] = {}
    for strip in strips:
        cluster = int(mask_map.clusters[strip.row])
        called = mask_map.names.get(cluster, f"cluster {cluster}")
        heading = _HEADINGS[strip.kind].format(cluster=called, name=masks.name(strip.row))
        tiles = [
            StripTile(crops[row, TILE_PX], int(mask_map.clusters[row]), masks.name(row), cosine)
            for row, cosine in zip((strip.row, *strip.neighbours), (None, *strip.cosines), strict=True)
        ]
        picture = draw_strip(heading, tiles)
        write_png(out / "neighbours" / f"{_file_name(masks, strip.row)}.png", picture)
        found = ", ".join(f"{tile.name} ({tile.cosine:.3f})" for tile in tiles if tile.cosine is not None)
        caption = f"{heading}; most similar: {found or 'no mask of another image'}"
        pages.setdefault(strip.kind, []).append(PageStrip(picture, caption))
    return DrawnSpace(*drawn, pages, layout.thumbnails)


def write_png(path: Path, picture: ImageArray) -> None:
    """Write a picture atomically."""
    write_atomically(path, lambda temporary: Image.fromarray(picture).save(temporary, format="PNG"))


def _map_of(space: Space) -> MaskMap:
    """Return what the map is drawn from; the axes of principal components say their share of the variance."""
    axes = None
    if space.plane.variance is not None:
        first, second = space.plane.variance
        axes = (f"first principal component, {first:.0%} of the variance", f"second component, {second:.0%}")
    masks = space.masks
    sizes = [crop_size(masks.box(row), masks.size(row), THUMBNAIL_PX) for row in range(len(masks))]
    return MaskMap(space.plane.places, space.clusters.numbers, space.clusters.names, space.medoids, sizes, axes)


def _draw_maps(
    out: Path, mask_map: MaskMap, layout: MapLayout, thumbnails: Mapping[int, ImageArray]
) -> tuple[ImageArray, ImageArray]:
    pictures = draw_map(mask_map, layout, thumbnails), draw_marks(mask_map, layout)
    for name, picture in zip((MAP_FILE, MARKS_FILE), pictures, strict=True):
        write_png(out / name, picture)
    return pictures


def _cut_all(
    refs: Mapping[str, ImageRef], masks: EmbeddedMasks, wanted: Mapping[int, tuple[int, ...]], folder: Path
) -> dict[tuple[int, int], ImageArray]:
    """Return the crops of masks by (row, long side); a photograph that cannot be read any more gives an even grey."""
    by_stem: dict[str, list[int]] = {}
    for row in wanted:
        by_stem.setdefault(masks.stems[row], []).append(row)
    crops = {}
    for stem, rows in by_stem.items():
        size = masks.size(rows[0])
        instances = read_label_map(folder / f"{stem}.png")
        photo = _photo(refs[stem], size)
        for row in rows:
            mask = instances == int(masks.numbers[row])
            for side in wanted[row]:
                crops[row, side] = cut_out(photo, mask, masks.box(row), side)
    return crops


def _photo(ref: ImageRef, size: tuple[int, int]) -> ImageArray:
    try:
        photo = read_image(ref.path)
    except InputError:
        return plain_photo(size)
    return photo if photo.shape[:2] == size else plain_photo(size)


def _file_name(masks: EmbeddedMasks, row: int) -> str:
    stem = masks.stems[row]
    return stem if masks.name(row) == stem else f"{stem}_mask_{int(masks.numbers[row])}"
