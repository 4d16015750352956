"""Whose neighbours `embedding_space` shows, and who they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from densessl.commands.embedded_masks import EmbeddedMasks
from densessl.errors import InputError
from densessl.evaluation.neighbours import most_similar
from densessl.evaluation.typical_masks import least_typical
from densessl.structures import ImageRef, Rejection

StripKind = Literal["asked for", "medoid", "least typical"]

NUM_LEAST_TYPICAL = 6


@dataclass(frozen=True)
class Strip:
    """A mask and its nearest masks in other images, as rows, with their cosines, nearest first."""

    kind: StripKind
    row: int
    neighbours: tuple[int, ...]
    cosines: tuple[float, ...]


@dataclass(frozen=True)
class Query:
    """A mask that was asked for: the stem of its image, and its number there; None for the largest."""

    stem: str
    number: int | None


def parse_queries(text: str | None, images: Sequence[ImageRef]) -> tuple[Query, ...]:
    """Read stems with commas between them, each with `:N` behind it for mask N.

    Raises:
        InputError: an image that is not there.
    """
    known = {ref.stem for ref in images}
    if text is None or text in known:  # a stem may hold what parts others
        return () if text is None else (Query(text, None),)
    queries = []
    for word in (part.strip() for part in text.split(",")):
        stem, _, number = word.rpartition(":")
        if word in known:
            queries.append(Query(word, None))
        elif stem in known and number.isdecimal():
            queries.append(Query(stem, int(number)))
        else:
            raise InputError(
                f"query {word!r} is no image of the data set; give stems, the path below the image folder without "
                f"suffix, such as {images[0].stem} (or {images[0].stem}:2 for its second mask), commas between them"
            )
    return tuple(queries)


def rows_of_queries(queries: Sequence[Query], masks: EmbeddedMasks, rejected: Sequence[Rejection]) -> tuple[int, ...]:
    """Return the row of each mask that was asked for.

    Raises:
        InputError: its image was left out, with the reason, or has no mask of that number.
    """
    rows = []
    for query in queries:
        own = [row for row, stem in enumerate(masks.stems) if stem == query.stem]
        if not own:
            reason = next((item.reason for item in rejected if item.stem == query.stem), "it has no mask")
            raise InputError(f"query {query.stem} has no prototype: {reason}; ask for another image")
        if query.number is None:
            rows.append(max(own, key=lambda row: int(masks.areas_px[row])))
            continue
        numbered = [row for row in own if int(masks.numbers[row]) == query.number]
        if not numbered:
            there = ", ".join(str(int(masks.numbers[row])) for row in own)
            raise InputError(f"image {query.stem} has no mask {query.number}; it has {there}")
        rows.append(numbered[0])
    return tuple(rows)


def make_strips(
    masks: EmbeddedMasks,
    clusters: NDArray[np.int64],
    medoids: dict[int, int],
    asked: Sequence[int],
    num_neighbours: int,
    num_shown: int,
) -> list[Strip]:
    """Find the neighbours of the rows that were asked for; of none, of medoids and of the least typical masks.

    Medoids come by the size of their cluster, largest first; at most `num_shown` strips are made of them and of the at
    most 6 least typical masks.
    """
    chosen: list[tuple[StripKind, int]] = [("asked for", row) for row in asked]
    if not asked:
        by_size = sorted(medoids, key=lambda cluster: -int((clusters == cluster).sum()))
        odd = [row for row in least_typical(masks.vectors, clusters, NUM_LEAST_TYPICAL) if row not in medoids.values()]
        chosen = [("medoid", medoids[cluster]) for cluster in by_size]
        chosen = (chosen + [("least typical", row) for row in odd])[:num_shown]
    images = masks.image_numbers()
    strips = []
    for kind, row in chosen:
        rows, cosines = most_similar(masks.vectors, row, images, num_neighbours)
        strips.append(Strip(kind, row, tuple(rows.tolist()), tuple(cosines.tolist())))
    return strips
