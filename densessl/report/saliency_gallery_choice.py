"""Chooses the images of the gallery: the extremes of every measure and a random sample, the same every time."""

import heapq
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from densessl.report.saliency_gallery_records import LabelScores, MaskFacts
from densessl.structures import Rejection

NUM_SAMPLED = 200
SAMPLE_SEED = 0
PARTS_OF_ALL = 4  # a section holds at most one in so many masks, so that opposite ends stay apart in small folders


@dataclass(frozen=True)
class Extremes:
    """The images at one end of one measure, the farthest first; `text` says which end and what to look for."""

    identifier: str
    heading: str
    text: str
    stems: tuple[str, ...]


def choose_extremes(
    facts: Mapping[str, MaskFacts], num_per_section: int, scores: LabelScores | None = None
) -> tuple[Extremes, ...]:
    """Return the sections that have images; with `scores`, first the best and the worst by IoU with the labels."""
    everything = list(facts.values())
    num = min(num_per_section, -(-len(everything) // PARTS_OF_ALL))
    several = [item for item in everything if item.num_parts > 1]
    at_border = [item for item in everything if item.num_edges]
    sections = [
        *_by_labels(everything, num, scores),
        _extremes("surest", everything, num, lambda item: (-item.score,)),
        _extremes("least-sure", everything, num, lambda item: (item.score,)),
        _extremes("largest", everything, num, lambda item: (-item.area_share,)),
        _extremes("smallest", everything, num, lambda item: (item.area_share,)),
        _extremes("many-parts", several, num, lambda item: (-item.num_parts, -item.area_share)),
        _extremes("border", at_border, num, lambda item: (-item.num_edges, -item.area_share)),
    ]
    return tuple(section for section in sections if section.stems)


def choose_sample(stems: Iterable[str], num_sampled: int = NUM_SAMPLED) -> tuple[str, ...]:
    """Draw stems at random with a fixed seed, in their own order; all of them where there are no more."""
    ordered = sorted(stems)
    if len(ordered) <= num_sampled:
        return tuple(ordered)
    return tuple(sorted(random.Random(SAMPLE_SEED).sample(ordered, num_sampled)))


def choose_rejected(groups: Sequence[Sequence[Rejection]], num: int) -> tuple[Rejection, ...]:
    """Take rejected images from the groups in turn, so that every reason is seen."""
    rounds = max(map(len, groups), default=0)
    turns = (group[index] for index in range(min(rounds, num)) for group in groups if index < len(group))
    return tuple(rejection for _, rejection in zip(range(num), turns, strict=False))


def group_by_reason(rejected: Sequence[Rejection]) -> tuple[tuple[Rejection, ...], ...]:
    """Group rejections whose reasons differ in nothing but numbers and the image's own name, largest group first."""
    groups: dict[str, list[Rejection]] = defaultdict(list)
    for rejection in rejected:
        nameless = re.sub(rf"\S*{re.escape(rejection.stem)}\S*", "*", rejection.reason)
        groups[re.sub(r"\d+(\.\d+)?", "#", nameless)].append(rejection)
    return tuple(tuple(group) for group in sorted(groups.values(), key=len, reverse=True))


TEXTS = {
    "best": ("Best", "The highest IoU with the labels."),
    "worst": ("Worst", "The lowest IoU with the labels."),
    "surest": ("Surest", "The highest score, which is the mean of the soft map over the mask."),
    "least-sure": ("Least sure", "The lowest score. If these fail in one way, a higher threshold may drop them."),
    "largest": ("Largest", "The most of the image covered. --max_area rejects masks that cover too much."),
    "smallest": ("Smallest", "The least of the image covered. --min_area rejects masks that are too small."),
    "many-parts": ("Many parts", "The most connected parts; each of them is a proposal of its own."),
    "border": (
        "Touching the border",
        "The most edges of the image reached. A mask at three or four edges is often the background.",
    ),
}
"""Heading and explanation of every section."""


def _by_labels(facts: Sequence[MaskFacts], num: int, scores: LabelScores | None) -> list[Extremes]:
    if scores is None:
        return []
    ious = scores.ious
    scored = [item for item in facts if item.stem in ious]
    num = min(num, -(-len(scored) // PARTS_OF_ALL))
    return [
        _extremes("best", scored, num, lambda item: (-ious[item.stem],)),
        _extremes("worst", scored, num, lambda item: (ious[item.stem],)),
    ]


def _extremes(
    identifier: str, facts: Iterable[MaskFacts], num: int, rank: Callable[[MaskFacts], tuple[float, ...]]
) -> Extremes:
    heading, text = TEXTS[identifier]
    first = heapq.nsmallest(num, facts, key=lambda item: (*rank(item), item.stem))
    return Extremes(identifier, heading, text, tuple(item.stem for item in first))
