"""The stage `segment`: masks from points, a box or a mask prompt, or of everything, by a promptable model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.promptable_network import OpenedModel, PromptableSource, open_promptable_model
from densessl.commands.recorded_folder import claim_folder, model_record, write_folder_record
from densessl.commands.segment_everything import EverythingSummary, segment_everything
from densessl.commands.segment_prompts import GivenPrompt, read_prompt
from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.masks import SEGMENT_RECORD
from densessl.errors import InputError, MissingInputError
from densessl.files import write_atomically, write_bytes
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.framing import frame_of
from densessl.promptable.mask_map import MapSettings
from densessl.promptable.mask_refinement import Refinement
from densessl.promptable.mask_runs import runs_of
from densessl.promptable.memory_plan import MAX_MEMORY_GB
from densessl.promptable.predicted_masks import PredictedMasks, Selection
from densessl.promptable.predictor import Predictor
from densessl.promptable.prompts import check_prompts
from densessl.report.prompted_masks import draw_masks
from densessl.structures import ImageArray, ImageRef, ImageSet


@checked_arguments
def segment(
    out: Path,
    image: Path | None = None,
    images: Path | None = None,
    points: str | None = None,
    box: str | None = None,
    mask: Path | None = None,
    multimask: bool = True,
    select: Selection | None = None,
    refine: Refinement = "none",
    mirrored: bool = False,
    everything: bool = False,
    weights: Path | None = None,
    encoder: str | None = None,
    encoder_weights: Path | None = None,
    pretrained: bool = False,
    size_px: int | None = None,
    automatic: AutomaticSettings = AutomaticSettings(),
    map: MapSettings = MapSettings(),
    max_memory_gb: float = MAX_MEMORY_GB,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    seed: int | None = None,
) -> "EverythingSummary | PredictedMasks":
    """Segment what points, a box or a mask prompt show in an image, or everything in one image or a folder of them.

    The masks are those of a promptable model (SAM, MobileSAM, or one's own); segment.json says which labels trained it.

    With prompts: writes masks/1.png, 2.png, ... (0 and 255, the highest predicted IoU first), overlay.png,
    low_resolution.npy (for --mask) and segment.json below --out. With --everything true: maps of numbered masks
    masks/STEM.png, all masks in proposals.json (COCO layout), overlays/STEM.png, rejected.json and segment.json; --out
    then serves as --masks of pretrain. A call that was stopped goes on where it ended when it is repeated; an image
    that cannot be read is listed with the reason, and tried again by the next call.

    Args:
        out: folder to write; new, empty, or begun by this command with the same model and settings.
        image: an image (give this or --images).
        images: a folder of images, nested or not, for --everything true.
        points: one prompt's points in pixels, "x,y,1;x,y,0": label 1 on the object, 0 off it.
        box: x0,y0,x1,y1 around the object, in pixels; belongs to the same prompt as the points.
        mask: low_resolution.npy of an earlier call for this image, whose first mask belongs to the prompt too.
        multimask: three masks, best for a single click, or one, for prompts that are clear.
        select: keep one of the three: best (highest predicted IoU), fitting (the one in whose middle the click lies, or
            that the box is close around, at the threshold where it fits), whole, part or subpart (by area).
        refine: grabcut cuts the masks of a prompt anew along colours and edges, which small models gain by; none keeps
            the model's own.
        mirrored: see the image in the mirror too and average the masks: twice the time, a little better masks of small
            models.
        everything: no prompts: masks of all that is found by a grid of points.
        weights: file of a promptable model: SAM's, MobileSAM's, transformers' SamModel or densessl's.
        encoder: instead, the timm name of a backbone under a decoder of random weights, whose masks mean nothing yet.
        encoder_weights: file with that backbone's weights (torchvision, timm, DINO, a run's final.safetensors, ...).
        pretrained: let timm download its published weights for that backbone.
        size_px: long side of the images that a model named by encoder sees, a multiple of 16; 1024 where not given.
        automatic: how masks of everything are proposed and chosen.
        map: which of them the maps hold.
        max_memory_gb: bound on the memory that decoding and restoring masks of everything take, in 10^9 bytes; the
            weights, the encoder's own work, the image and the runs of all masks that pass the thresholds (16 bytes a
            run, before duplicates are removed) come on top.
        precision: fp32, bf16, or auto (bf16 where the machine multiplies it in hardware).
        seed: of the random weights of a model named by encoder; 0 where not given.

    Returns:
        The masks of the prompt, or of everything the counts.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    source = PromptableSource(weights, encoder, encoder_weights, pretrained, size_px, seed)
    prompt = read_prompt(points, box, mask)
    _check_task(prompt, image, images, everything, select, multimask, refine, mirrored)
    _check_unused(everything, automatic, map, max_memory_gb)
    image_set = _open(image, images, out)
    opened = open_promptable_model(source)
    predictor = Predictor(opened.model, precision=precision, mirrored=mirrored)
    if opened.is_untrained:
        _say("the decoder has random weights: these masks mean nothing yet")
    if everything:
        record = model_record(opened, predictor, {"automatic": asdict(automatic), "map": asdict(map)})
        summary = segment_everything(predictor, image_set, out, automatic, map, max_memory_gb, record)
        print(summary)
        if summary.num_segmented == 0:
            raise InputError(f"none of {summary.num_images} images got a mask; {out / 'rejected.json'} says why")
        return summary
    return _segment_prompt(predictor, image_set.images[0], prompt, multimask, select, refine, out, opened)


def _segment_prompt(
    predictor: Predictor,
    ref: ImageRef,
    prompt: GivenPrompt,
    multimask: bool,
    select: Selection | None,
    refine: Refinement,
    out: Path,
    opened: OpenedModel,
) -> PredictedMasks:
    photo = read_image(ref.path)
    frame = frame_of((photo.shape[0], photo.shape[1]), predictor.model.settings)
    check_prompts(prompt.points, prompt.labels, prompt.box, prompt.mask, frame)  # before the encoder's long work
    record = model_record(opened, predictor, {"prompts": True})
    claim_folder(out, record, SEGMENT_RECORD, "segment")
    prompts = prompt.describe()  # before its file, if it is of this folder, gets the new masks
    found = predictor.set_image(photo).predict(
        prompt.points, prompt.labels, prompt.box, prompt.mask, multimask=multimask, select=select, refine=refine
    )
    num_masks = found.masks.shape[1]
    for rank in range(num_masks):
        _write_png(out / "masks" / f"{rank + 1}.png", found.masks[0, rank].astype(np.uint8) * 255)
    for rank in range(num_masks, predictor.model.settings.num_multimask):  # of an earlier prompt
        (out / "masks" / f"{rank + 1}.png").unlink(missing_ok=True)
    _write_png(out / "overlay.png", _overlay(photo, found, prompt)[..., ::-1])
    write_atomically(out / "low_resolution.npy", lambda path: np.save(path, found.low_resolution[0]))
    masks = _described(found)
    about = {"image": ref.path.resolve(), "height": photo.shape[0], "width": photo.shape[1]}
    choice = {"multimask": multimask, "select": select, "refine": refine, "mirrored": predictor.mirrored}
    write_folder_record(out, {**record, **about, "prompt": prompts, **choice, "masks": masks}, SEGMENT_RECORD)
    for entry in masks:
        _say(
            f"{entry['file']}: predicted IoU {entry['predicted_iou']:.3f}, stability {entry['stability']:.3f}, "
            f"{entry['area_px']} pixels"
        )
    return found


def _check_task(
    prompt: GivenPrompt,
    image: Path | None,
    images: Path | None,
    everything: bool,
    select: Selection | None,
    multimask: bool,
    refine: Refinement,
    mirrored: bool,
) -> None:
    if (image is None) == (images is None):
        given = "neither" if image is None else "both"
        raise InputError(f"give an image (--image FILE) or a folder of images (--images DIR), got {given}")
    if everything and not prompt.is_empty:
        raise InputError("everything is true, which takes no prompts, but there are some; leave out one or the other")
    if everything and (select is not None or not multimask or refine != "none" or mirrored):
        raise InputError(
            "select, multimask, refine and mirrored are for prompts; leave them out where everything is true"
        )
    if not everything and prompt.is_empty:
        raise InputError(
            "no prompt is given; give --points x,y,1, --box x0,y0,x1,y1 or --mask FILE, or --everything true"
        )
    if not everything and images is not None:
        raise InputError(
            f"a prompt is for one image, but images {images} is a folder; give --image FILE, or --everything true"
        )


def _check_unused(
    everything: bool, automatic: AutomaticSettings, map_settings: MapSettings, max_memory_gb: float
) -> None:
    if everything:
        return
    if automatic != AutomaticSettings() or map_settings != MapSettings():
        raise InputError("settings of automatic and map are for --everything true; leave them out")
    if max_memory_gb != MAX_MEMORY_GB:
        raise InputError(f"max_memory_gb is {max_memory_gb:g}, but it is for --everything true; leave it out")


def _open(image: Path | None, images: Path | None, out: Path) -> ImageSet:
    if images is not None:
        return open_image_folder(images, out)
    if image is None or not image.is_file():
        raise MissingInputError(f"no image {image}; give the path of an image file")
    return ImageSet(image.name, (ImageRef(image.stem, image),))


def _described(found: PredictedMasks) -> list[dict[str, Any]]:
    return [
        {
            "file": f"masks/{rank + 1}.png",
            "predicted_iou": float(found.predicted_iou[0, rank]),
            "stability": float(found.stability[0, rank]),
            "area_px": int(found.area_px[0, rank]),
            "box": list(runs_of(found.masks[0, rank]).box),
            "output": int(found.output[0, rank]),
        }
        for rank in range(found.masks.shape[1])
    ]


def _overlay(photo: ImageArray, found: PredictedMasks, prompt: GivenPrompt) -> ImageArray:
    num_pixels = photo.shape[0] * photo.shape[1]
    captions = [
        f"{rank + 1}: predicted IoU {found.predicted_iou[0, rank]:.2f}, stability {found.stability[0, rank]:.2f}, "
        f"{found.area_px[0, rank] / num_pixels:.1%}"
        for rank in range(found.masks.shape[1])
    ]
    points = np.zeros((0, 2)) if prompt.points is None else prompt.points
    labels = np.zeros(0, dtype=np.int64) if prompt.labels is None else prompt.labels
    return draw_masks(photo, list(found.masks[0]), captions, points, labels, prompt.box)


def _write_png(path: Path, values: ImageArray) -> None:
    _, encoded = cv2.imencode(".png", values)
    write_bytes(path, encoded.tobytes())


def _say(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(text)
