"""The proposals folder: what is written for each image, and the lists of the whole set.

<folder>/masks/<stem>.png   the foreground at the image's size, 0 and 255
<folder>/soft/<stem>.png    the soft map, 0-255, where it was asked for
<folder>/proposals.json     every connected part (or segment of the image, where these were asked for), in the COCO
                            instances layout with compressed RLE masks, so that `pycocotools.coco.COCO(file)` loads
                            it; extra keys: `stem` of the image, `score` of the part, and in `info` which labels
                            touched the masks
<folder>/proposals_results.json   the parts as the list of results that `COCO.loadRes` takes, of `saliency` alone
<folder>/rejected.json      a list of {"stem", "reason"}
<folder>/saliency.json      the settings, which labels touched the masks, and the number of images, masks and
                            rejections once all are done
<folder>/records*.jsonl     one line for each finished image (`record_journal`): what a run that was killed goes on from
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths

from densessl.data.coco_segments import segment_to_mask
from densessl.data.object_masks import PROPOSALS_FILE
from densessl.errors import InputError
from densessl.files import read_json, writable_folder, write_atomically, write_bytes, write_json
from densessl.saliency.record_journal import ImageRecord, RecordPlace
from densessl.structures import ImageProposals, MaskArray, Proposal, Rejection

DESCRIPTION = "connected parts of the saliency masks"
SEGMENTS_DESCRIPTION = "segments of the images by eigenvectors, without the background"
CATEGORY = {"id": 1, "name": "foreground", "supercategory": "foreground"}
LISTS = (PROPOSALS_FILE, "proposals_results.json", "rejected.json")
"""What is written of all images together, once they are all finished."""

_EXPECTED = "a folder written by `densessl saliency`"


@dataclass(frozen=True)
class ListedImage:
    """How the lists name an image: by its id, and by its file's path below the image folder."""

    identity: Any
    file_name: str


def write_image(folder: Path, result: ImageProposals, keep_soft: bool) -> ImageRecord:
    """Write the mask, and the soft map if asked for, of one image; returns its record."""
    _write_png(folder / "masks" / f"{result.stem}.png", result.foreground.astype(np.uint8) * 255)
    if keep_soft:
        _write_png(folder / "soft" / f"{result.stem}.png", _in_8_bits(result.soft))
    height, width = result.foreground.shape
    return ImageRecord(result.stem, height, width, tuple(_annotation(part) for part in result.proposals))


def remove_image(folder: Path, stem: str) -> None:
    """Remove the mask and the soft map that an earlier run wrote of a file that had this image's name."""
    with writable_folder(folder):
        for kind in ("masks", "soft"):
            (folder / kind / f"{stem}.png").unlink(missing_ok=True)


def is_written(folder: Path, stem: str, place: RecordPlace | None, keep_soft: bool) -> bool:
    """Say whether an image is finished: rejected for good, or with everything that its record stands for on disk."""
    if place is None or place.is_rejected:
        return place is not None and not place.is_unreadable
    kinds = ("masks", "soft") if keep_soft else ("masks",)
    return all((folder / kind / f"{stem}.png").is_file() for kind in kinds)


def write_lists(
    folder: Path,
    records: Sequence[ImageRecord],
    images: Sequence[ListedImage],
    supervision: str,
    description: str = DESCRIPTION,
) -> None:
    """Write `proposals.json` and `rejected.json` from the records of all images, in their order, one at a time.

    images: one for each record. supervision: which labels touched the proposals. description: of what they are.
    """
    info = {"description": description, "supervision": supervision}

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as handle:
            handle.write(f'{{"info": {json.dumps(info)}, "images": [')
            _write_entries(handle.write, _image_entries(records, images))
            handle.write('], "annotations": [')
            _write_entries(handle.write, _annotation_entries(records, images))
            handle.write(f'], "categories": {json.dumps([CATEGORY])}}}\n')

    write_atomically(folder / PROPOSALS_FILE, write)
    write_json(
        folder / "rejected.json",
        [{"stem": record.stem, "reason": record.reason} for record in records if record.reason is not None],
    )


def write_results(
    folder: Path, records: Sequence[ImageRecord], images: Sequence[ListedImage], category_id: Any = CATEGORY["id"]
) -> None:
    """Write `proposals_results.json`, whose parts are all of one category; further arguments as `write_lists`.

    Boxes are left out: `COCO.loadRes` would take their areas for those of the masks.
    """
    entries = (
        {
            "image_id": entry["image_id"],
            "category_id": category_id,
            "segmentation": entry["segmentation"],
            "score": entry["score"],
        }
        for entry in _annotation_entries(records, images)
    )

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as handle:
            handle.write("[")
            _write_entries(handle.write, entries)
            handle.write("]\n")

    write_atomically(folder / "proposals_results.json", write)


def _write_entries(write: Callable[[str], Any], entries: Iterable[dict[str, Any]]) -> None:
    for number, entry in enumerate(entries):
        write((", " if number else "") + json.dumps(entry, allow_nan=False))


def _image_entries(records: Sequence[ImageRecord], images: Sequence[ListedImage]) -> Iterator[dict[str, Any]]:
    for record, image in zip(records, images, strict=True):
        if record.reason is None:
            name = {"id": image.identity, "file_name": image.file_name, "stem": record.stem}
            yield {**name, "height": record.height, "width": record.width}


def _annotation_entries(records: Sequence[ImageRecord], images: Sequence[ListedImage]) -> Iterator[dict[str, Any]]:
    accepted = ((record, image) for record, image in zip(records, images, strict=True) if record.reason is None)
    parts = ((image.identity, part) for record, image in accepted for part in record.annotations)
    for identity, (image_id, part) in enumerate(parts, start=1):
        yield {"id": identity, "image_id": image_id, "category_id": CATEGORY["id"], **part}


def read_rejected(folder: Path) -> tuple[Rejection, ...]:
    """Read the images that were left out, sorted by stem."""
    path = folder / "rejected.json"
    try:
        return tuple(Rejection(str(row["stem"]), str(row["reason"])) for row in read_json(path, _EXPECTED))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of stems and reasons ({error!r}); expected {_EXPECTED}") from error


def read_proposals(folder: Path) -> dict[str, tuple[Proposal, ...]]:
    """Read the proposals of each accepted image by stem, largest first."""
    path = folder / PROPOSALS_FILE
    content = read_json(path, _EXPECTED)
    try:
        images = {image["id"]: image for image in content["images"]}
        found: dict[str, list[Proposal]] = {image["stem"]: [] for image in images.values()}
        for annotation in content["annotations"]:
            image = images[annotation["image_id"]]
            found[image["stem"]].append(_proposal(annotation, image["height"], image["width"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no list of proposals ({error!r}); expected {_EXPECTED}") from error
    return {stem: tuple(parts) for stem, parts in found.items()}


def encode_mask(mask: MaskArray) -> dict[str, Any]:
    """Return a mask (height, width) as COCO compressed RLE: `{"size": [height, width], "counts": text}`."""
    encoded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def _annotation(part: Proposal) -> dict[str, Any]:
    left, top, right, bottom = part.box
    return {
        "segmentation": encode_mask(part.mask),
        "bbox": [left, top, right - left, bottom - top],
        "area": part.area_px,
        "score": part.score,
        "iscrowd": 0,
        "touches_border": part.touches_border,
    }


def _proposal(annotation: dict[str, Any], image_height: int, image_width: int) -> Proposal:
    left, top, width, height = (int(value) for value in annotation["bbox"])
    return Proposal(
        mask=segment_to_mask(annotation["segmentation"], image_height, image_width),
        score=float(annotation["score"]),
        area_px=int(annotation["area"]),
        box=(left, top, left + width, top + height),
        touches_border=bool(annotation["touches_border"]),
    )


def _in_8_bits(soft: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a soft map in 0 to 255, whose values are above a half just where those of the map are above 0.5."""
    nearest = np.rint(soft * 255)
    return np.where(soft > 0.5, np.maximum(nearest, 128), np.minimum(nearest, 127)).astype(np.uint8)


def _write_png(path: Path, values: NDArray[np.uint8]) -> None:
    _, encoded = cv2.imencode(".png", values)
    write_bytes(path, encoded.tobytes())
