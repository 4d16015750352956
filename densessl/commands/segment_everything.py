"""Automatic masks of a set of images, written as they are found; the other half of the command `segment`.

OUT/masks/STEM.png      each pixel's mask, 0 none, 1, 2, ... (16-bit): what `pretrain --masks OUT` takes
OUT/proposals.json      all masks, overlapping ones too, as COCO instances with compressed run lengths
OUT/overlays/STEM.png   the map over the photograph
OUT/rejected.json       images without masks, and why
OUT/segment.json        model, settings, supervision, counts
OUT/records.jsonl       one line for each finished image: what a call that was stopped goes on from

The lists and counts are of all images that the folder has a record of, those of earlier calls too. An image is known by
its stem; one whose file has changed, or another of that stem, is done again and takes its place.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from densessl.commands.recorded_folder import claim_folder, write_folder_record
from densessl.data.images import read_image
from densessl.data.masks import SEGMENT_RECORD
from densessl.data.object_masks import PROPOSALS_FILE
from densessl.errors import InputError
from densessl.files import file_sha256, write_bytes
from densessl.promptable.automatic_masks import AutomaticMask, automatic_masks
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.mask_map import MapSettings, mask_map
from densessl.promptable.predictor import Predictor
from densessl.report.prompted_masks import draw_mask_map
from densessl.saliency.mask_provenance import automatic_supervision
from densessl.saliency.proposal_store import ListedImage, write_lists
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
    """Of the images of a call: how many, with masks, without, finished by an earlier call; and their masks."""

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
    """Write the automatic masks of each image; goes on after one that fails, and where a call was stopped.

    record: for segment.json; what it holds under "compared" must be the same when the folder is taken up again.

    Raises:
        InputError: a folder begun with other settings or another model, or by another hand.
    """
    claim_folder(out, record, SEGMENT_RECORD, "segment")
    journal = out / "records.jsonl"
    drop_cut_line(journal)
    places = index_records(out)
    todo = [ref for ref in images.images if not _is_done(out, ref, places.get(ref.stem))]
    if todo:  # a list that is there tells that all is done
        (out / PROPOSALS_FILE).unlink(missing_ok=True)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    for ref in track(todo, "segment", console=console, disable=not console.is_terminal):
        started = time.monotonic()
        finished = _segment(predictor, ref, out, settings, map_settings, max_memory_gb)
        finished = replace(finished, file_name=ref.file_name)
        append_record(journal, finished)
        found = finished.reason or f"{len(finished.annotations)} masks, {time.monotonic() - started:.1f} seconds"
        console.print(f"{ref.stem}: {found}")
    num_masks = _finish_folder(images, out, record)
    segmented = [num_masks[ref.stem] for ref in images.images if ref.stem in num_masks]
    num_reused = len(images) - len(todo)
    return EverythingSummary(out, len(images), len(segmented), len(images) - len(segmented), num_reused, sum(segmented))


def _finish_folder(images: ImageSet, out: Path, record: dict[str, Any]) -> dict[str, int]:
    """Write the lists and counts of all images that the folder knows; returns the masks of each that has some.

    images: of this call; records of earlier versions kept no name of theirs.
    """
    known = {ref.stem: ref.file_name for ref in images.images}
    places = index_records(out, is_quiet=True)
    with open_records([places[stem] for stem in sorted(places)]) as records:
        names = [known.get(item.stem) or item.file_name or f"masks/{item.stem}.png" for item in records]
        listed = [ListedImage(number, name) for number, name in enumerate(names, start=1)]
        write_lists(out, records, listed, automatic_supervision(record["supervision"]), _DESCRIPTION)
        num_masks = {item.stem: len(item.annotations) for item in records if item.reason is None}
    counts = {"images": len(places), "segmented": len(num_masks), "rejected": len(places) - len(num_masks)}
    write_folder_record(out, {**record, "counts": {**counts, "masks": sum(num_masks.values())}}, SEGMENT_RECORD)
    return num_masks


def _is_done(out: Path, ref: ImageRef, place: RecordPlace | None) -> bool:
    if place is None or place.is_unreadable or place.file_sha256 != _digest(ref):
        return False
    return place.is_rejected or all(path.is_file() for path in _pictures(out, ref.stem))


def _digest(ref: ImageRef) -> str | None:
    try:
        return file_sha256(ref.path)
    except OSError:  # whoever decodes it says what is wrong
        return None


def _pictures(out: Path, stem: str) -> tuple[Path, Path]:
    """Return the paths of an image's map and of its overlay."""
    return out / "masks" / f"{stem}.png", out / "overlays" / f"{stem}.png"


def _segment(
    predictor: Predictor,
    ref: ImageRef,
    out: Path,
    settings: AutomaticSettings,
    map_settings: MapSettings,
    max_memory_gb: float,
) -> ImageRecord:
    """Write what belongs to one image, or remove what an earlier image of its stem left; returns its record."""
    digest = _digest(ref)
    try:
        pixels = read_image(ref.path)
        found = automatic_masks(predictor, pixels, settings, max_memory_gb)
    except InputError as error:
        _remove_pictures(out, ref.stem)
        return ImageRecord(ref.stem, reason=str(error), is_unreadable=True, file_sha256=digest)
    except (torch.OutOfMemoryError, MemoryError):
        _remove_pictures(out, ref.stem)
        reason = (
            f"memory did not suffice with max_memory_gb {max_memory_gb:g}; repeat the command with a smaller one, or "
            "on a larger machine"
        )
        return ImageRecord(ref.stem, reason=reason, is_unreadable=True, file_sha256=digest)
    height, width = pixels.shape[:2]
    if not found:
        _remove_pictures(out, ref.stem)
        reason = (
            f"no mask has a predicted IoU above {settings.predicted_iou_threshold:g} and a stability of "
            f"{settings.stability_threshold:g} or more; other models than SAM may need lower values of "
            "automatic.predicted_iou_threshold and automatic.stability_threshold, in a new --out"
        )
        return ImageRecord(ref.stem, height, width, reason=reason, file_sha256=digest)
    numbers = mask_map([mask.runs for mask in found], (height, width), map_settings)
    map_path, overlay_path = _pictures(out, ref.stem)
    _write_png(overlay_path, draw_mask_map(pixels, numbers)[..., ::-1])
    _write_png(map_path, numbers)
    return ImageRecord(ref.stem, height, width, tuple(_annotations(found, height, width)), file_sha256=digest)


def _remove_pictures(out: Path, stem: str) -> None:
    for path in _pictures(out, stem):
        path.unlink(missing_ok=True)


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
