"""Automatic masks of a set of images, written as they are found; the other half of the command `segment`.

OUT/masks/STEM.png      each pixel's mask, 0 none, 1, 2, ... (16-bit): what `pretrain --masks OUT` takes
OUT/proposals.json      all masks, overlapping ones too, as COCO instances with compressed run lengths
OUT/overlays/STEM.png   the map over the photograph
OUT/rejected.json       images without masks, and why
OUT/segment.json        model, settings, supervision, counts
OUT/records.jsonl       one line for each finished image: what a call that was stopped goes on from
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from densessl.commands.segment_folder import claim_segment_folder, write_segment_record
from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.files import write_bytes
from densessl.promptable.automatic_masks import AutomaticMask, automatic_masks
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.mask_map import MapSettings, mask_map
from densessl.promptable.predictor import Predictor
from densessl.report.prompted_masks import draw_mask_map
from densessl.saliency.proposal_store import write_lists
from densessl.saliency.record_journal import (
    ImageRecord,
    RecordPlace,
    append_record,
    drop_cut_line,
    index_records,
    open_records,
)
from densessl.structures import ImageRef, ImageSet

_DESCRIPTION = "automatic masks of a promptable model; score is the predicted IoU"


@dataclass(frozen=True)
class EverythingSummary:
    """What was done: images, those with masks, those without, those finished by an earlier call, masks in all."""

    out: Path
    num_images: int
    num_segmented: int
    num_rejected: int
    num_reused: int
    num_masks: int

    def __str__(self) -> str:
        reused = f", {self.num_reused} finished before" if self.num_reused else ""
        return (
            f"{self.num_masks} masks in {self.num_segmented} of {self.num_images} images, {self.num_rejected} without"
            f"{reused}: {self.out}"
        )


def segment_everything(
    predictor: Predictor,
    images: ImageSet,
    out: Path,
    settings: AutomaticSettings,
    map_settings: MapSettings,
    max_memory_gb: float,
    record: dict[str, Any],
) -> EverythingSummary:
    """Write the automatic masks of each image; goes on after one that cannot be read, and where a call was stopped.

    record: for segment.json; what it holds under "compared" must be the same when the folder is taken up again.

    Raises:
        InputError: a folder begun with other settings or another model, or a bound on memory that one point exceeds.
    """
    claim_segment_folder(out, record)
    journal = out / "records.jsonl"
    drop_cut_line(journal)
    places = index_records(out)
    todo = [ref for ref in images.images if not _is_done(out, ref.stem, places.get(ref.stem))]
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    for ref in track(todo, "segment", console=console, disable=not console.is_terminal):
        started = time.monotonic()
        finished = _segment(predictor, ref, out, settings, map_settings, max_memory_gb)
        append_record(journal, finished)
        found = finished.reason or f"{len(finished.annotations)} masks, {time.monotonic() - started:.1f} seconds"
        console.print(f"{ref.stem}: {found}")
    places = index_records(out, is_quiet=True)
    with open_records([places[ref.stem] for ref in images.images]) as records:
        write_lists(out, records, _DESCRIPTION)
        num_masks = sum(len(item.annotations) for item in records)
    num_segmented = sum(not places[ref.stem].is_rejected for ref in images.images)
    summary = EverythingSummary(
        out, len(images), num_segmented, len(images) - num_segmented, len(images) - len(todo), num_masks
    )
    counts = {"images": len(images), "segmented": num_segmented, "rejected": summary.num_rejected, "masks": num_masks}
    write_segment_record(out, {**record, "counts": counts})
    return summary


def _is_done(out: Path, stem: str, place: RecordPlace | None) -> bool:
    if place is None or place.is_rejected:
        return place is not None and not place.is_unreadable
    return all((out / kind / f"{stem}.png").is_file() for kind in ("masks", "overlays"))


def _segment(
    predictor: Predictor,
    ref: ImageRef,
    out: Path,
    settings: AutomaticSettings,
    map_settings: MapSettings,
    max_memory_gb: float,
) -> ImageRecord:
    """Write what belongs to one image; returns its record."""
    try:
        pixels = read_image(ref.path)
    except InputError as error:
        return ImageRecord(ref.stem, reason=str(error), is_unreadable=True)
    height, width = pixels.shape[:2]
    found = automatic_masks(predictor, pixels, settings, max_memory_gb)
    if not found:
        return ImageRecord(ref.stem, height, width, reason="no mask passed the filters of predicted IoU and stability")
    numbers = mask_map([mask.runs for mask in found], (height, width), map_settings)
    _write_png(out / "overlays" / f"{ref.stem}.png", draw_mask_map(pixels, numbers)[..., ::-1])
    _write_png(out / "masks" / f"{ref.stem}.png", numbers)
    return ImageRecord(ref.stem, height, width, tuple(_annotations(found, height, width)))


def _annotations(masks: tuple[AutomaticMask, ...], height: int, width: int) -> Iterator[dict[str, Any]]:
    for mask in masks:
        left, top, right, bottom = mask.box
        x0, y0, x1, y1 = mask.crop
        yield {
            "segmentation": mask.runs.coco(),
            "bbox": [left, top, right - left, bottom - top],
            "area": mask.area_px,
            "score": mask.predicted_iou,
            "stability": mask.stability,
            "point": list(mask.point),
            "crop_box": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
            "touches_border": left == 0 or top == 0 or right == width or bottom == height,
        }


def _write_png(path: Path, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    _, encoded = cv2.imencode(".png", values)
    write_bytes(path, encoded.tobytes())
