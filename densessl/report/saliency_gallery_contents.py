"""What the gallery of a folder of proposed masks shows, and how it is gathered: few images are opened."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from densessl.errors import InputError
from densessl.report.saliency_gallery_choice import (
    Extremes,
    choose_extremes,
    choose_rejected,
    choose_sample,
    group_by_reason,
)
from densessl.report.saliency_gallery_records import LabelScores, ProposedMasks
from densessl.report.saliency_gallery_thumbnails import Thumbnail, draw_thumbnails
from densessl.structures import ImageRef, Rejection


@dataclass(frozen=True)
class SaliencyGallery:
    """What the page shows, thumbnails included.

    `provenance` says in words which labels touched the masks, `images_per_second` how fast they were made. `scores`
    are there only where labels were read, and then sort the best and the worst.
    """

    masks: ProposedMasks
    provenance: str
    extremes: tuple[Extremes, ...]
    sample: tuple[str, ...]
    reasons: tuple[tuple[Rejection, ...], ...]
    rejected: tuple[Rejection, ...]
    thumbnails: Mapping[str, Thumbnail] = field(repr=False)
    images_per_second: float | None = None
    scores: LabelScores | None = None

    @property
    def title(self) -> str:
        """The name of the folder of masks."""
        return self.masks.folder.resolve().name or "masks"


def gather_saliency_gallery(
    masks: ProposedMasks,
    images: Iterable[ImageRef],
    provenance: str,
    num_per_section: int = 24,
    *,
    images_per_second: float | None = None,
    scores: LabelScores | None = None,
) -> SaliencyGallery:
    """Choose the images of the gallery and draw them; no other image is read.

    Each section holds at most `num_per_section` images and a quarter of the masks. An image or mask that cannot be
    read costs its picture, not the page. Raises `InputError` for fewer than one image a section, and where none of
    the folder's images is among `images`.
    """
    if num_per_section < 1:
        raise InputError(f"num_per_section is {num_per_section}; give at least 1 (24 is usual)")
    refs = {ref.stem: ref for ref in images}
    known = [*masks.facts, *(rejection.stem for rejection in masks.rejected)]
    if known and refs.keys().isdisjoint(known):
        raise InputError(
            f"none of the {len(refs)} images (the first is {next(iter(refs), 'none')}) belongs to the masks in "
            f"{masks.folder} (the first is {known[0]}); give the images that the masks were made from"
        )
    extremes = choose_extremes(masks.facts, num_per_section, scores)
    sample = choose_sample(masks.facts)
    reasons = group_by_reason(masks.rejected)
    rejected = choose_rejected(reasons, num_per_section)
    with_mask = [*sample, *(stem for chosen in extremes for stem in chosen.stems)]
    thumbnails = draw_thumbnails(masks.folder / "masks", refs, with_mask, [rejection.stem for rejection in rejected])
    return SaliencyGallery(
        masks, provenance, extremes, sample, reasons, rejected, thumbnails, images_per_second, scores
    )
