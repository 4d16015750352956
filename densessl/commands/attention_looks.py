"""What `attention` draws of each image, computed from its arrays: masks, components, similarity, overlap with masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from densessl.attention.mass import head_ious, mass_mask
from densessl.attention.principal_colours import ColourBasis, fit_colour_basis
from densessl.attention.similarity import cell_at, feature_energy, half_distance, most_similar, similarity_to
from densessl.commands.attention_arrays import SeenImage, read_features, read_seen
from densessl.data.images import read_image
from densessl.data.masks import MaskFolder
from densessl.report.attention_pictures import spread
from densessl.report.attention_sheet import AttentionLook, Look, MatchLook, QueryLook, ResolutionLook
from densessl.report.thumbnails import resize_photo, thumbnail_size
from densessl.structures import ImageArray, ImageRef

SHOWN_PX = 320
"""Long side of a panel of the contact sheets."""


@dataclass(frozen=True)
class OtherImage:
    """The image in which patches similar to a chosen one are looked for."""

    photo: ImageArray
    seen: SeenImage


def fit_colours(paths: Sequence[Path], *, remove_background: bool) -> ColourBasis:
    """Fit one basis of colours to the stored features of all images."""

    def features() -> Iterator[NDArray[np.float32]]:
        return map(read_features, paths)

    return fit_colour_basis(features, remove_background=remove_background)


def look_at(
    ref: ImageRef,
    path: Path,
    basis: ColourBasis,
    mass: float,
    point: tuple[float, float] | None = None,
    other: OtherImage | None = None,
) -> Look:
    """Compute what is drawn of an image.

    Args:
        ref: the image. path: its arrays.
        basis: of the colours. mass: share of attention that masks keep.
        point: (x, y) in pixels of the image, whose patch others are compared with.
        other: an image in which it is looked for too.

    Raises:
        InputError: an image or arrays that cannot be read, or a point outside of the image.
    """
    seen = read_seen(path)
    photo = resize_photo(read_image(ref.path), thumbnail_size(seen.native_size, SHOWN_PX))
    shown = (photo.shape[0], photo.shape[1])
    coloured = basis.colour(seen.features)
    return Look(
        stem=ref.stem,
        photo=photo,
        covered=seen.covered(shown),
        rgb=coloured.rgb,
        foreground=coloured.foreground,
        energy=feature_energy(seen.features),
        attention=_attention_look(seen, mass),
        query=None if point is None else _query_look(seen, shown, point, other),
        resolutions=tuple(_resolution_look(seen, size, basis, shown) for size in seen.others),
    )


def ious_with_mask(path: Path, ref: ImageRef, masks: MaskFolder, mass: float) -> dict[str, float]:
    """Return the IoU with an image's mask of the patches that hold a share of attention: of each head, and the mean.

    Raises:
        InputError: a mask that is missing, broken or of another size.
    """
    seen = read_seen(path)
    if seen.maps is None:
        return {}
    foreground = masks.read(ref, seen.native_size).foreground
    full = mass_masks(seen.maps, seen.covered(seen.native_size), seen.native_size, mass)
    ious = head_ious(torch.from_numpy(full), torch.from_numpy(foreground)).tolist()
    return {**{f"head {number}": value for number, value in enumerate(ious[:-1])}, "mean of the heads": ious[-1]}


def mass_masks(
    maps: NDArray[np.float32], covered: tuple[float, float], shown: tuple[int, int], mass: float
) -> NDArray[np.bool_]:
    """Return the patches that hold a share of attention, of each head and, last, of the mean over heads.

    Args:
        maps: (heads, grid height, grid width). covered: (height, width) that the grid covers, in pixels of the result.
        shown: (height, width) of the result, (heads + 1, height, width).
        mass: the share.
    """
    with_mean = np.concatenate([maps, maps.mean(axis=0, keepdims=True)])
    return spread(mass_mask(torch.from_numpy(with_mean), mass).numpy(), covered, shown)


def half_distances(path: Path, image_size: int | None) -> Mapping[int, float]:
    """Return the half distance of an image's features, in its own pixels, by the long side at which it was seen."""
    seen = read_seen(path)
    if not seen.others:
        return {}
    factor = max(seen.native_size) / max(seen.size)
    own = {max(seen.size): half_distance(seen.features, seen.cell_px * factor)} if image_size else {}
    return dict(sorted({**own, **{size: _distance_at(seen, size) for size in seen.others}}.items()))


def mean_of(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each entry, all over the same mappings: those that have every entry as a finite number."""
    names = dict.fromkeys(name for item in values for name in item)
    whole = [item for item in values if all(np.isfinite(item.get(name, np.nan)) for name in names)]
    return {name: float(np.mean([item[name] for item in whole])) for name in names} if whole else {}


def _attention_look(seen: SeenImage, mass: float) -> AttentionLook | None:
    if seen.maps is None or seen.rollout is None:
        return None
    mean = seen.maps.mean(axis=0)
    masks = mass_mask(torch.from_numpy(seen.maps), mass).numpy()
    mean_mask = mass_mask(torch.from_numpy(mean), mass).numpy()
    return AttentionLook(seen.maps, masks, mean, mean_mask, seen.rollout, mass)


def _query_look(
    seen: SeenImage, shown: tuple[int, int], point: tuple[float, float], other: OtherImage | None
) -> QueryLook:
    grid = (seen.features.shape[0], seen.features.shape[1])
    cell = cell_at(point, seen.native_size, seen.covered(seen.native_size), grid)
    query = seen.features[cell]
    factor = shown[1] / seen.native_size[1], shown[0] / seen.native_size[0]
    shown_point = (point[0] + 0.5) * factor[0], (point[1] + 0.5) * factor[1]
    match = None if other is None else _match_look(other, query)
    return QueryLook(shown_point, similarity_to(seen.features, query), match)


def _match_look(other: OtherImage, query: NDArray[np.float32]) -> MatchLook:
    photo = resize_photo(other.photo, thumbnail_size(other.seen.native_size, SHOWN_PX))
    shown = (photo.shape[0], photo.shape[1])
    similarity = similarity_to(other.seen.features, query)
    best, covered = most_similar(similarity), other.seen.covered(shown)
    x = (best.column + 0.5) * covered[1] / similarity.shape[1]
    y = (best.row + 0.5) * covered[0] / similarity.shape[0]
    return MatchLook(photo, covered, similarity, (min(x, shown[1] - 1), min(y, shown[0] - 1)))


def _resolution_look(seen: SeenImage, size_px: int, basis: ColourBasis, shown: tuple[int, int]) -> ResolutionLook:
    coloured = basis.colour(seen.others[size_px])
    covered = seen.covered_at(size_px, shown)
    return ResolutionLook(size_px, _distance_at(seen, size_px), coloured.rgb, coloured.foreground, covered)


def _distance_at(seen: SeenImage, size_px: int) -> float:
    return half_distance(seen.others[size_px], seen.cell_px * max(seen.native_size) / size_px)
