"""Masks of everything in an image: a grid of points, filters, and duplicates removed (arXiv:2304.02643, appendix B)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torchvision.ops import nms  # type: ignore[import-untyped]

from densessl.errors import InputError
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.crop_grid import Crop, crops_of
from densessl.promptable.mask_bands import RestoredMask, mask_restorer
from densessl.promptable.mask_runs import Box, MaskRuns
from densessl.promptable.memory_plan import MAX_MEMORY_GB, MemoryPlan, plan_memory
from densessl.promptable.predictor import ImageEmbedding, Predictor
from densessl.promptable.prompt_encoder import point_prompts
from densessl.promptable.prompts import FOREGROUND, MASK_SCALE, check_image
from densessl.promptable.small_regions import remove_small_regions
from densessl.structures import ImageArray


@dataclass(frozen=True)
class AutomaticMask:
    """One mask that was found without being asked for.

    runs: the mask, of the image's size (`runs.mask()` as an array, `runs.coco()` as COCO's run lengths).
    area_px: its pixels. box: `(x0, y0, x1, y1)` around it, upper bound exclusive. predicted_iou: what the network
    thinks its IoU with an object is. stability: see `AutomaticSettings`, of the mask before small regions were removed.
    point: `(x, y)` that asked for it. crop: box of the part of the image that it was found in.
    """

    runs: MaskRuns
    area_px: int
    box: Box
    predicted_iou: float
    stability: float
    point: tuple[float, float]
    crop: Box


def automatic_masks(
    predictor: Predictor,
    image: ImageArray,
    settings: AutomaticSettings = AutomaticSettings(),
    max_memory_gb: float = MAX_MEMORY_GB,
) -> tuple[AutomaticMask, ...]:
    """Return the masks of everything in an image, as SAM's published generator chooses them, in its order.

    For each crop and point three masks are decoded; those of low predicted IoU are dropped before they are upscaled;
    the others are brought to the crop's size one by one, in bands, and dropped where they are unstable, empty, or cut
    by the crop's edge. Of masks with nearly the same box the one of the highest predicted IoU stays, then that of the
    smaller crop; then small holes and islands go, and duplicates that this made.

    Args:
        predictor: its device and precision; the embedding of the whole image is kept as in `set_image`, which the
            image that is set does not notice.
        image: uint8 RGB (height, width, 3), of any size.
        settings: see `AutomaticSettings`.
        max_memory_gb: bound on what decoding and restoring take (`plan_memory`); it changes no mask but by rounding.

    Raises:
        InputError: no such image, a bound that one point exceeds, or a predictor that is mirrored.
    """
    check_image(image)
    if predictor.mirrored:
        raise InputError("the predictor is mirrored, which is for prompts; give automatic_masks one that is not")
    size = (image.shape[0], image.shape[1])
    crops = crops_of(size, settings)
    found = [mask for crop in crops for mask in _masks_of_crop(predictor, image, crop, settings, max_memory_gb)]
    if len(crops) > 1:
        scores = [1 / ((mask.crop[2] - mask.crop[0]) * (mask.crop[3] - mask.crop[1])) for mask in found]
        found = _without_duplicates(found, scores, settings.crop_nms_threshold)
    if settings.min_region_px > 0:
        found = _clean(found, settings)
    return tuple(found)


def _masks_of_crop(
    predictor: Predictor, image: ImageArray, crop: Crop, settings: AutomaticSettings, max_memory_gb: float
) -> list[AutomaticMask]:
    size = (image.shape[0], image.shape[1])
    x0, y0, x1, y1 = crop.box
    pixels = image[y0:y1, x0:x1]
    embedding = predictor.embed(pixels) if crop.layer == 0 else predictor.encode(pixels)
    plan = plan_memory(embedding.frame, predictor.model.settings.dim, max_memory_gb, predictor.device)
    masks = [
        replace(mask, runs=mask.runs.placed(crop.box, size), box=_moved(mask.box, x0, y0), crop=crop.box)
        for mask in _decoded(predictor, embedding, crop, settings, plan)
        if not crop.cuts(mask.box, size)
    ]
    kept = _without_duplicates(masks, [mask.predicted_iou for mask in masks], settings.box_nms_threshold)
    return [replace(mask, point=(mask.point[0] + x0, mask.point[1] + y0)) for mask in kept]


def _decoded(
    predictor: Predictor, embedding: ImageEmbedding, crop: Crop, settings: AutomaticSettings, plan: MemoryPlan
) -> Iterator[AutomaticMask]:
    """Yield the masks that pass the filters of predicted IoU and stability, in the pixels of the crop."""
    height, width = embedding.frame.grid
    grid = (MASK_SCALE * height, MASK_SCALE * width)
    restorer = mask_restorer(embedding.frame, grid, predictor.device)
    points = crop.points(settings.points_of_layer(crop.layer))
    for start in range(0, len(points), plan.num_points):
        batch = points[start : start + plan.num_points]
        for prompt, predicted_iou, logits in _promising(predictor, embedding, batch, settings, plan):
            restored = restorer.restore(logits, settings.stability_offset)
            if restored.stability >= settings.stability_threshold and len(restored.runs.starts):
                yield _described(restored, predicted_iou, batch[prompt], crop)


@torch.inference_mode()
def _promising(
    predictor: Predictor,
    embedding: ImageEmbedding,
    points: np.ndarray,
    settings: AutomaticSettings,
    plan: MemoryPlan,
) -> Iterator[tuple[int, float, torch.Tensor]]:
    """Yield the point's number, predicted IoU and logits (4 h, 4 w) of each mask of a high predicted IoU."""
    model, decoder = predictor.model, predictor.model.mask_decoder
    in_frame = torch.from_numpy(embedding.frame.to_frame(points)).to(predictor.device)[:, None]
    labels = torch.full(in_frame.shape[:2], FOREGROUND, device=predictor.device)
    with predictor.autocast():
        sparse = model.prompt_encoder.embed_points(*point_prompts(in_frame, labels, None))
        no_mask = model.prompt_encoder.embed_no_mask()
        features, fine = decoder.parts(embedding.features)
        tokens, cells = decoder.attend(features, embedding.positions, sparse, no_mask)
        predicted_iou = decoder.predict_iou(tokens)[:, 1:].float()  # (points, masks), without the single mask
    threshold = settings.predicted_iou_threshold
    is_wanted = predicted_iou > threshold if threshold > 0 else torch.ones_like(predicted_iou, dtype=torch.bool)
    prompts = torch.nonzero(is_wanted.any(1)).flatten()
    if not len(prompts):
        return
    cells = cells.unflatten(1, embedding.frame.grid)
    for part in prompts.split(plan.num_upscaled):
        with predictor.autocast():
            logits = decoder.masks(tokens[part], cells[part], fine, "multiple").float()
        for place, prompt in enumerate(part.tolist()):
            for number in torch.nonzero(is_wanted[prompt]).flatten().tolist():
                yield prompt, float(predicted_iou[prompt, number]), logits[place, number]


def _described(restored: RestoredMask, predicted_iou: float, point: np.ndarray, crop: Crop) -> AutomaticMask:
    runs, x, y = restored.runs, float(point[0]), float(point[1])
    return AutomaticMask(runs, runs.area_px, runs.box, predicted_iou, restored.stability, (x, y), crop.box)


def _clean(masks: list[AutomaticMask], settings: AutomaticSettings) -> list[AutomaticMask]:
    """Remove small regions, then duplicates, of which a mask stays that had no small region."""
    cleaned = [_without_small_regions(mask, settings.min_region_px) for mask in masks]
    scores = [float(after is before) for after, before in zip(cleaned, masks, strict=True)]
    return _without_duplicates(cleaned, scores, max(settings.box_nms_threshold, settings.crop_nms_threshold))


def _without_small_regions(mask: AutomaticMask, min_area_px: int) -> AutomaticMask:
    runs = remove_small_regions(mask.runs, min_area_px)
    return mask if runs is mask.runs else replace(mask, runs=runs, area_px=runs.area_px, box=runs.box)


def _without_duplicates(masks: list[AutomaticMask], scores: list[float], threshold: float) -> list[AutomaticMask]:
    """Keep the masks whose box has no higher IoU with a kept one of a higher score; those come first.

    As published, boxes reach from the first to the last pixel, and so are one pixel narrower than what they hold.
    """
    if not masks:
        return []
    boxes = torch.tensor([(x0, y0, x1 - 1, y1 - 1) for x0, y0, x1, y1 in (mask.box for mask in masks)])
    kept = nms(boxes.float(), torch.tensor(scores), threshold)
    return [masks[index] for index in kept.tolist()]


def _moved(box: Box, x: int, y: int) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y
