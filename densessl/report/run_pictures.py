"""Chooses the pictures of a report with a fixed seed and loads them at the size they are shown."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from densessl.errors import InputError
from densessl.files import read_json
from densessl.report.contents import ClusterStrip, Comparison, MaskGallery, Picture, Scores
from densessl.report.overlays import remap
from densessl.report.photographs import Photographs, stored_map, stored_stems
from densessl.report.run_masks import RunMasks
from densessl.report.thumbnails import resize_map, resize_photo, square_crop, thumbnail_size
from densessl.structures import IGNORE, ImageArray, LabelMap, MaskArray, Rejection

MAX_COMPARISONS = 8
MAX_GALLERY = 24
MAX_GALLERY_CANDIDATES = 96
MAX_REJECTED_PICTURES = 6
MAX_STRIPS = 40
MAX_MEMBERS = 12
MAX_CROPS = 240
COMPARISON_PX, GALLERY_PX, CROP_PX = 320, 300, 144


def gather_comparisons(
    run: Path,
    scores: Scores | None,
    before: Scores | None,
    photographs: Photographs,
    masks: RunMasks,
    chooser: random.Random,
    *,
    has_background: bool = True,
) -> tuple[tuple[Comparison, ...], int]:
    """Load up to `MAX_COMPARISONS` images drawn at random among all that were segmented, and count those.

    With `has_background`, label maps hold c + 1 for cluster c and 0 for background; without, they hold c.
    """
    stems = stored_stems(run / "clusters" / "label_maps")
    chosen = sorted(chooser.sample(stems, min(MAX_COMPARISONS, len(stems))))
    items = (_comparison(run, stem, scores, before, photographs, masks, has_background) for stem in chosen)
    return tuple(items), len(stems)


def gather_strips(
    folder: Path,
    clusters: Sequence[Mapping[str, Any]],
    scores: Scores | None,
    photographs: Photographs,
    has_background: bool = True,
) -> tuple[ClusterStrip, ...]:
    """Load the nearest members of the largest clusters, `MAX_MEMBERS` each and `MAX_CROPS` in all at most."""
    largest = sorted(clusters, key=lambda cluster: -int(cluster.get("size", 0)))[:MAX_STRIPS]
    num_members = min(MAX_MEMBERS, MAX_CROPS // max(1, len(largest)))
    try:
        return tuple(_strip(folder, cluster, num_members, scores, photographs, has_background) for cluster in largest)
    except KeyError as missing:
        raise InputError(
            f"{folder / 'clusters.json'} has a cluster or member without {missing}; cluster again"
        ) from missing


def gather_gallery(
    run: Path, settings: Mapping[str, str], photographs: Photographs, masks: RunMasks, chooser: random.Random
) -> MaskGallery | None:
    """Load up to `MAX_GALLERY` masks, spread evenly from the smallest to the largest of a random sample."""
    stems = masks.stems()
    found = (*_rejections(run / "proposals" / "rejected.json"), *_rejections(run / "left_out.json"))
    rejected = tuple({rejection.stem: rejection for rejection in reversed(found)}.values())[::-1]
    if not stems and not rejected:
        return None
    pictures: list[tuple[float, str, MaskArray]] = []
    for stem in chooser.sample(stems, min(MAX_GALLERY_CANDIDATES, len(stems))):
        mask = masks.read(stem)
        if mask is not None:
            pictures.append((float(mask.mean()), stem, mask))
    pictures.sort(key=lambda item: item[:2])
    spread = np.linspace(0, len(pictures) - 1, min(MAX_GALLERY, len(pictures))).round().astype(int)
    return MaskGallery(
        num_masks=len(stems),
        pictures=tuple(_picture(pictures[index][1], pictures[index][2], photographs) for index in spread),
        rejected=rejected,
        rejected_pictures=_one_per_reason(rejected, photographs),
        settings=settings,
    )


def _comparison(
    run: Path,
    stem: str,
    scores: Scores | None,
    before: Scores | None,
    photographs: Photographs,
    masks: RunMasks,
    has_background: bool,
) -> Comparison:
    after_map = _matched(stored_map(run / "clusters" / "label_maps", stem), scores)
    if after_map is not None and scores is None and not has_background:
        after_map = after_map + 1  # cluster numbers are shown as c + 1 everywhere, so that 0 stays background
    # Without scores the cluster numbers of the two clusterings are unrelated, so only one of them is shown.
    before_map = _matched(stored_map(run / "clusters_initial" / "label_maps", stem), before) if before else None
    mask = masks.read(stem)
    label = photographs.label(stem) if scores else None
    if label is not None and scores is not None and scores.classes:
        scored = [score.class_id for score in scores.classes]
        label = np.where(np.isin(label, scored), label, IGNORE)
    photo = photographs.photo(stem)
    maps = [values for values in (after_map, before_map, mask, label) if values is not None]
    size = thumbnail_size(_native_size(photo, maps), COMPARISON_PX)
    return Comparison(
        stem=stem,
        photo=None if photo is None else resize_photo(photo, size),
        mask=None if mask is None else resize_map(mask, size).astype(bool),
        before=_resized(before_map, size),
        after=_resized(after_map, size),
        label=_resized(label, size),
    )


def _matched(label_map: LabelMap | None, scores: Scores | None) -> LabelMap | None:
    if label_map is None or scores is None or not scores.assignment:
        return label_map
    return remap(label_map, scores.assignment)


def _strip(
    folder: Path,
    cluster: Mapping[str, Any],
    num_members: int,
    scores: Scores | None,
    photographs: Photographs,
    has_background: bool,
) -> ClusterStrip:
    index = int(cluster["id"])
    value = index + has_background  # of this cluster in the label maps
    class_id = scores.assignment.get(value) if scores else None
    names = {score.class_id: score.name for score in scores.classes} if scores else {}
    nearest = (cluster.get("members") or [])[:num_members]
    return ClusterStrip(
        cluster=index,
        size=int(cluster.get("size", 0)),
        matched_class=None if class_id is None else names.get(class_id, f"class {class_id}"),
        members=tuple(_crop(folder, str(member["stem"]), value, photographs) for member in nearest),
        distances=tuple(member.get("distance") for member in nearest),
    )


def _crop(folder: Path, stem: str, value: int, photographs: Photographs) -> Picture:
    label_map = stored_map(folder / "label_maps", stem)
    photo = photographs.photo(stem)
    if label_map is None and photo is None:
        return Picture(stem, None, None)
    size = _native_size(photo, [] if label_map is None else [label_map])
    mask = np.zeros(size, bool) if label_map is None else resize_map(label_map == value, size).astype(bool)
    rows, columns = square_crop(mask)
    cropped = mask[rows, columns]
    shown = (CROP_PX, CROP_PX)  # small crops are enlarged first, so that the outline is as thin as on large ones
    small = None if photo is None else resize_photo(np.ascontiguousarray(photo[rows, columns]), shown)
    return Picture(stem, small, None if label_map is None else resize_map(cropped, shown).astype(bool))


def _picture(stem: str, mask: MaskArray | None, photographs: Photographs) -> Picture:
    photo = photographs.photo(stem)
    if photo is None and mask is None:
        return Picture(stem, None, None)
    size = thumbnail_size(_native_size(photo, [] if mask is None else [mask]), GALLERY_PX)
    return Picture(
        stem,
        None if photo is None else resize_photo(photo, size),
        None if mask is None else resize_map(mask, size).astype(bool),
    )


def _one_per_reason(rejected: Sequence[Rejection], photographs: Photographs) -> tuple[Picture, ...]:
    """Show examples of rejected images, taking the reasons in turn so that each is seen."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for rejection in rejected:
        by_reason[rejection.reason].append(rejection.stem)
    rounds = max((len(stems) for stems in by_reason.values()), default=0)
    turns = [stems[index] for index in range(rounds) for stems in by_reason.values() if index < len(stems)]
    pictures: list[Picture] = []
    for stem in turns:
        if len(pictures) == MAX_REJECTED_PICTURES:
            break
        if stem in photographs.images:
            pictures.append(_picture(stem, None, photographs))
    return tuple(picture for picture in pictures if picture.photo is not None)


def _rejections(path: Path) -> tuple[Rejection, ...]:
    if not path.is_file():
        return ()
    values = read_json(path, "a list of {stem, reason}")
    if not isinstance(values, list) or not all(isinstance(item, dict) and "stem" in item for item in values):
        raise InputError(f"{path} is not a list of {{stem, reason}}; make the proposals again")
    return tuple(Rejection(str(item["stem"]), str(item.get("reason", "no reason given"))) for item in values)


def _native_size(photo: ImageArray | None, maps: Sequence[NDArray[Any]]) -> tuple[int, int]:
    shape = photo.shape if photo is not None else maps[0].shape
    return int(shape[0]), int(shape[1])


def _resized(values: LabelMap | None, size: tuple[int, int]) -> LabelMap | None:
    return None if values is None else cast(LabelMap, resize_map(values, size))
