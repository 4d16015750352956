"""The command `filter_masks`: those of many masks that a promptable model, taught by all of them, gives back.

OUT/proposals.json      the masks that are kept, as COCO instances; `score` is the agreement
OUT/rejected.json       images of which none is kept, and why
OUT/filtered.json       model, settings, supervision, counts
OUT/records.jsonl       one line for each finished image, with all of its masks: what a stopped call goes on from
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.promptable_network import PromptableSource, open_promptable_model
from densessl.commands.recorded_folder import claim_folder, model_record, write_folder_record
from densessl.data.coco_annotations import mask_annotation
from densessl.data.images import read_image
from densessl.data.layouts import open_images
from densessl.data.masks import FILTER_RECORD
from densessl.data.object_masks import PROPOSALS_FILE, ChosenObjects, ObjectSettings, open_objects
from densessl.errors import InputError
from densessl.files import read_json, state_of_files
from densessl.promptable.click_agreement import click_agreement
from densessl.promptable.predictor import Predictor
from densessl.saliency.mask_provenance import filtered_supervision, masks_provenance
from densessl.saliency.proposal_store import ListedImage, write_lists
from densessl.saliency.record_journal import (
    ImageRecord,
    append_record,
    drop_cut_line,
    index_records,
    open_records,
)
from densessl.structures import ImageRef, ImageSet

_DESCRIPTION = (
    "masks that a promptable model gives back for clicks inside them; score is their mean IoU with its answers"
)

_NO_MEMORY = (
    "memory did not suffice for this image; repeat the command on a larger machine, or with a smaller image and masks"
)


@dataclass(frozen=True)
class FilteredMasks:
    """What was kept: masks of how many, in how many images of how many."""

    out: Path
    num_kept: int
    num_masks: int
    num_images_kept: int
    num_images: int

    def __str__(self) -> str:
        return (
            f"{self.num_kept} of {self.num_masks} masks are kept, in {self.num_images_kept} of {self.num_images} "
            f"images: {self.out}"
        )


@checked_arguments
def filter_masks(
    out: Path,
    masks: Path,
    weights: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    min_agreement: float = 0.7,
    num_clicks: int = 8,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    seed: int = 0,
    objects: ObjectSettings = ObjectSettings(),
) -> FilteredMasks:
    """Keep the masks that a promptable model gives back for clicks inside them; no label is read.

    Of proposals that nobody checked some hold several objects, or half of one. A model that was taught by all of them
    (`train_promptable`, with `paste` or without) gives the right ones back more often than the wrong ones. Train on
    what is left: `paste --masks OUT`, `train_promptable --masks OUT`. A call that was stopped is repeated; with another
    --min_agreement it only writes the lists anew.

    Args:
        out: folder to write; new, empty, or begun by this command with the same masks, images, model and clicks.
        masks: the masks: a folder of `saliency` or of `segment --everything true`, a COCO instances json, or a folder
            of id maps or masks.
        weights: the model: a file of `train_promptable`, or SAM's or MobileSAM's, whose masks people drew.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images); of it only the images are read.
        split: the split of --data.
        min_agreement: masks are kept whose mean IoU with the model's answers is at least this, in [0, 1].
        num_clicks: clicks inside each mask, drawn away from its edge.
        precision: fp32, bf16 (mixed), or auto: bf16 where the device multiplies it in hardware.
        seed: of the clicks.
        objects: which masks are looked at.

    Returns:
        How many masks are kept.

    Raises:
        InputError: input that cannot be used, or no mask that agrees; the message says what to change.
    """
    if not 0 <= min_agreement <= 1:
        raise InputError(f"min_agreement is {min_agreement}; it is a mean IoU, from 0 to 1")
    if num_clicks < 1 or seed < 0:
        raise InputError(f"num_clicks is {num_clicks} and seed {seed}; they are at least 1 and 0")
    image_set = open_images(images, data, split, out)
    chosen = open_objects(masks, image_set.images, objects)
    opened = open_promptable_model(PromptableSource(weights, None, None, pretrained=False))
    predictor = Predictor(opened.model, precision=precision)
    task = {
        "images": hashlib.sha256("\n".join(ref.stem for ref in image_set.images).encode()).hexdigest(),
        "masks": state_of_files(chosen.source.files),
        "num_clicks": num_clicks,
        "seed": seed,
        "objects": objects,
    }
    supervision = filtered_supervision(masks_provenance(masks), opened.supervision)
    record = {**model_record(opened, predictor, task), "supervision": supervision, "min_agreement": min_agreement}
    claim_folder(out, record, FILTER_RECORD, "filter_masks")
    num_judged = _judge(image_set, chosen, predictor, out, num_clicks, seed)
    kept = (None if num_judged else _written_before(out, min_agreement)) or _write_kept(image_set, out, record)
    print(kept)
    if not kept.num_masks:
        raise InputError(
            f"none of {len(image_set)} images has a mask that can be judged; {out / 'rejected.json'} says why for "
            f"each: check {masks}"
        )
    if not kept.num_kept:
        raise InputError(
            f"none of {kept.num_masks} masks agrees by {min_agreement:g} with what the model makes of clicks inside; "
            f"{out / 'rejected.json'} says how much the best of each image does: give a smaller min_agreement"
        )
    return kept


def _judge(
    images: ImageSet, objects: ChosenObjects, predictor: Predictor, out: Path, num_clicks: int, seed: int
) -> int:
    """Record all masks of each image with their agreement; goes on after an image that fails, and after a stop.

    Returns how many images were judged now.
    """
    journal = out / "records.jsonl"
    drop_cut_line(journal)
    known = index_records(out)
    todo = [
        (index, ref)
        for index, ref in enumerate(images.images)
        if ref.stem not in known or known[ref.stem].is_unreadable or known[ref.stem].file_sha256 != _state(ref)
    ]
    if todo:  # a list that is there tells that all is done
        (out / PROPOSALS_FILE).unlink(missing_ok=True)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(objects.source.describe())
    for index, ref in track(todo, "filter_masks", console=console, disable=not console.is_terminal):
        state, generator = _state(ref), np.random.default_rng((seed, index))
        try:
            found = _judged(ref, objects, predictor, num_clicks, generator)
        except (InputError, torch.OutOfMemoryError, MemoryError) as error:
            reason = str(error) if isinstance(error, InputError) else _NO_MEMORY
            console.print(f"left out {ref.stem}: {reason}")
            found = ImageRecord(ref.stem, reason=reason, is_unreadable=True)
        append_record(journal, replace(found, file_sha256=state))
    return len(todo)


def _judged(
    ref: ImageRef, objects: ChosenObjects, predictor: Predictor, num_clicks: int, generator: np.random.Generator
) -> ImageRecord:
    image = read_image(ref.path)
    height, width = image.shape[:2]
    masks = objects.read(ref, (height, width))
    if not masks:
        return ImageRecord(ref.stem, height, width, reason="it has no mask, or none within the areas of --objects")
    predictor.set_image(image)
    scored = [(mask, click_agreement(predictor, mask, num_clicks, generator)) for mask in masks]
    parts = tuple({**mask_annotation(mask), "score": round(score, 4)} for mask, score in scored)
    return ImageRecord(ref.stem, height, width, parts)


def _state(ref: ImageRef) -> str:
    return state_of_files([ref.path])


def _written_before(out: Path, min_agreement: float) -> FilteredMasks | None:
    """Return what an earlier call with the same least agreement kept, if it wrote all of its lists."""
    match read_json(out / FILTER_RECORD, "the record of `filter_masks`"):
        case {"min_agreement": before, "counts": dict(counts)} if before == min_agreement:
            if (out / PROPOSALS_FILE).is_file():
                return FilteredMasks(out, *(counts[name] for name in ("kept", "masks", "images_kept", "images")))
    return None


def _write_kept(images: ImageSet, out: Path, record: dict[str, Any]) -> FilteredMasks:
    """Write the lists of the masks that agree enough, and then the counts, which tell that the lists are whole."""
    write_folder_record(out, record, FILTER_RECORD)
    places = index_records(out, is_quiet=True)
    with open_records([places[ref.stem] for ref in images.images]) as stored:
        num_masks = sum(len(item.annotations) for item in stored)
        kept = [_kept(item, record["min_agreement"]) for item in stored]
    listed = [ListedImage(number, ref.file_name) for number, ref in enumerate(images.images, start=1)]
    write_lists(out, kept, listed, record["supervision"], _DESCRIPTION)
    num_kept, num_images_kept = sum(len(item.annotations) for item in kept), sum(item.reason is None for item in kept)
    counts = {"images": len(images), "images_kept": num_images_kept, "masks": num_masks, "kept": num_kept}
    write_folder_record(out, {**record, "counts": counts}, FILTER_RECORD)
    return FilteredMasks(out, num_kept, num_masks, num_images_kept, len(images))


def _kept(record: ImageRecord, min_agreement: float) -> ImageRecord:
    parts = tuple(part for part in record.annotations if part["score"] >= min_agreement)
    if parts or record.reason is not None:
        return replace(record, annotations=parts)
    best = max(part["score"] for part in record.annotations)
    return replace(record, annotations=(), reason=f"no mask agrees enough (the best: {best:.2f})")
