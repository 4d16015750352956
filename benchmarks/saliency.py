"""Measure saliency methods on a labelled data set: masks, soft maps and images a second, a row for each.

    python -m benchmarks.saliency --data ROOT --methods fused mb_plus --refines none colour_models
    python -m benchmarks.saliency --data ROOT --methods tokencut --refines none --encoder NAME --weights FILE
    python -m benchmarks.saliency --data ROOT --methods self_trained --refines none --network FILE
    python -m benchmarks.saliency --data ROOT --methods learned_patches --network FILE
    python -m benchmarks.saliency --data ROOT --predictions ROOT/saliency_csnet
    python -m benchmarks.saliency --render-table

Rows go to results/saliency.jsonl; the last line writes the newest row of each method as a table into docs/saliency.md.
Foreground is every label but 0 and `IGNORE`; pixels labelled `IGNORE` are left out. With `--classes 8,10,12` only
these are foreground, and pixels of other classes are left out too. `mask_iou` is the IoU of the mask
that `saliency` would write, averaged over images, a rejected image counting as an empty mask; `mask_share` and
`object_share` are what masks and objects cover of the valid pixels; `best_overlap` and the average recalls compare the
proposals, whose parts they are, with objects (`object_truth`); the other measures are those of `saliency_metrics`, of
the soft map. The rate counts reading and proposing, without the start of the workers and without writing. Labels are
used for these numbers alone.
"""

import argparse
import functools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.object_truth import open_truth
from benchmarks.rows import append_row
from benchmarks.saliency_tables import MEASURES, PROPOSAL_MEASURES, render_saliency_table
from densessl.commands.classes import parse_classes
from densessl.data.images import read_image
from densessl.data.layouts import open_data_set
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.data.worker_pool import open_pool
from densessl.errors import InputError
from densessl.evaluation.image_objects import Instances
from densessl.evaluation.saliency_overlap import Candidates, make_candidates, score_proposals
from densessl.evaluation.saliency_scores import ImageMeasures, average_measures, measure_image
from densessl.evaluation.saliency_truth import only_classes
from densessl.saliency.attention_saliency import attention_record
from densessl.saliency.deep_estimator import feature_record
from densessl.saliency.estimators import NETWORK_METHODS, method_of
from densessl.saliency.feature_settings import DEEP_METHODS, ENCODER_METHODS
from densessl.saliency.mask_provenance import recorded_supervision
from densessl.saliency.network_saliency import network_record
from densessl.saliency.processing import use_one_thread
from densessl.saliency.proposals import SaliencySettings, connected_parts, estimate, propose_from
from densessl.structures import IGNORE, ImageProposals, ImageRef, LabelMap, LabelReader, MaskArray

MASK_THRESHOLD = 0.5


class Measured(NamedTuple):
    """One image: IoU of its mask, what mask and objects cover, its proposals and objects, the measures of its soft map,
    seconds, and whether it was rejected.
    """

    mask_iou: float
    mask_share: float
    object_share: float
    candidates: Candidates
    measures: ImageMeasures
    seconds: float
    is_rejected: bool


def main() -> None:
    """Measure what the arguments name, or render the table."""
    arguments = _parse()
    if arguments.render_table:
        render_saliency_table(arguments.results)
        return
    images = list(open_data_set(arguments.data, arguments.split).images)
    if arguments.num_images is not None:
        images = random.Random(arguments.seed).sample(images, min(arguments.num_images, len(images)))
    if arguments.predictions is not None:
        labels = "made elsewhere: whatever labels made them are theirs"
        _measure(arguments, images, None, arguments.predictions.name, "-", labels)
        return
    if arguments.network is not None and len(set(arguments.methods) & set(NETWORK_METHODS)) != 1:
        raise InputError(f"--network is of one of the methods {', '.join(NETWORK_METHODS)}; name that one (--methods)")
    for method in arguments.methods:
        for refine in arguments.refines:
            settings = settings_from(arguments, method, refine)
            _measure(arguments, images, settings, described(settings), refine, labels_behind(settings))


def _measure(
    arguments: argparse.Namespace,
    images: list[ImageRef],
    settings: SaliencySettings | None,
    method: str,
    refine: str,
    labels: str,
) -> None:
    """Measure one method and append its row; `settings` None reads the maps of `arguments.predictions`."""
    classes = parse_classes(arguments.classes)
    work = functools.partial(measure, arguments.data, arguments.split, classes, settings, arguments.predictions)
    with open_pool(arguments.num_workers, _start_worker, settings) as executor:
        results = list(executor.map(work, images, chunksize=4))
    overlaps = np.array([result.mask_iou for result in results])
    scores = average_measures(result.measures for result in results)
    if scores is None:
        raise SystemExit(f"{arguments.data} has no images in split {arguments.split}")
    proposals = score_proposals(result.candidates for result in results)
    rate = arguments.num_workers / float(np.mean([result.seconds for result in results]))
    row = append_row(
        arguments.results,
        {
            "benchmark": "saliency",
            "data": arguments.data.name,
            "split": arguments.split,
            "num_images": len(images),
            "classes": arguments.classes or "all",
            "method": method,
            "refine": refine,
            "labels": labels,
            "mask_iou": round(float(overlaps.mean()), 4),
            "standard_error": round(float(overlaps.std(ddof=1) / len(overlaps) ** 0.5), 4),
            "mask_share": round(float(np.mean([result.mask_share for result in results])), 4),
            "object_share": round(float(np.mean([result.object_share for result in results])), 4),
            **{name: round(getattr(proposals, name), 4) for name in PROPOSAL_MEASURES},
            **{name: round(getattr(scores, name), 4) for name in MEASURES},
            "images_per_second": None if settings is None else round(rate, 2),
            "num_workers": arguments.num_workers,
            "num_rejected": sum(result.is_rejected for result in results),
        },
    )
    print(json.dumps({key: row[key] for key in list(row)[1:21]}), flush=True)


def measure(
    data: Path,
    split: str,
    classes: tuple[int, ...] | None,
    settings: SaliencySettings | None,
    predictions: Path | None,
    image: ImageRef,
) -> Measured:
    """Measure one image; `classes` None counts all labels."""
    labels = _open_labels(data, split, classes)(image)
    started = time.perf_counter()
    if settings is None:
        maps = _open_maps(data, split, predictions or data)
        is_rejected = image.stem in maps.missing
        soft = np.zeros(labels.shape, dtype=np.float32) if is_rejected else maps.read(image, labels.shape).soft
        mask = soft > MASK_THRESHOLD
        parts = connected_parts(soft, MASK_THRESHOLD, SaliencySettings.min_area)
    else:
        soft = estimate(read_image(image.path), settings)
        result = propose_from(soft, image.stem, settings)
        is_rejected = not isinstance(result, ImageProposals)
        mask = result.foreground if isinstance(result, ImageProposals) else np.zeros(labels.shape, dtype=bool)
        parts = result.proposals if isinstance(result, ImageProposals) else ()
    seconds = time.perf_counter() - started
    valid, foreground = labels != IGNORE, (labels != IGNORE) & (labels != 0)
    truth = _open_objects(data, split, classes)(image)
    num_valid = max(int(valid.sum()), 1)
    return Measured(
        mask_iou=foreground_iou(mask, labels),
        mask_share=float((mask & valid).sum()) / num_valid,
        object_share=float(foreground.sum()) / num_valid,
        candidates=make_candidates(
            [part.mask for part in parts], [part.score for part in parts], truth.masks, truth.ignored
        ),
        measures=measure_image(image.stem, soft, foreground, valid),
        seconds=seconds,
        is_rejected=is_rejected,
    )


def foreground_iou(mask: MaskArray, labels: LabelMap) -> float:
    """Return the IoU of a mask with the labelled objects, both (height, width); 0 where both are empty."""
    valid = labels != IGNORE
    objects = valid & (labels != 0)
    union = ((mask & valid) | objects).sum()
    return float((mask & objects).sum() / union) if union else 0.0


def _start_worker(settings: SaliencySettings | None) -> None:
    """Prepare a worker; what a method loads once is not part of its rate."""
    use_one_thread()
    if settings is not None:
        estimate(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8), settings)


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name methods, or maps made elsewhere; `settings_from` reads them."""
    parser.add_argument("--methods", nargs="+", default=["fused"])
    parser.add_argument("--refines", nargs="+", default=["colour_models"])
    parser.add_argument("--predictions", type=Path, default=None, help="measure these maps in place of a method")
    parser.add_argument("--encoder", default=SaliencySettings.encoder, help="of the methods on deep features")
    parser.add_argument("--weights", type=Path, default=None, help="the encoder's")
    parser.add_argument("--pretrained", action="store_true", help="let timm download the encoder's weights")
    parser.add_argument("--output-stride", type=int, default=SaliencySettings.output_stride)
    parser.add_argument("--feature-size-px", type=int, default=SaliencySettings.feature_size_px)
    parser.add_argument("--attention-head", type=_head, default="mean", help="of method attention: a number, or mean")
    parser.add_argument("--network", type=Path, default=None, help="of self_trained or learned_patches")
    parser.add_argument("--num-workers", type=int, default=2)


def _head(text: str) -> int | Literal["mean"]:
    return "mean" if text == "mean" else int(text)


def settings_from(arguments: argparse.Namespace, method: str, refine: str) -> SaliencySettings:
    """Return the settings that the arguments give one method; `network` is for `NETWORK_METHODS` alone."""
    is_deep = method in ENCODER_METHODS
    return SaliencySettings(
        method=method_of(method),
        refine=refine,  # type: ignore[arg-type]  # checked by the settings
        encoder=arguments.encoder,
        weights=arguments.weights if is_deep else None,
        pretrained=arguments.pretrained and is_deep,
        output_stride=arguments.output_stride,
        feature_size_px=arguments.feature_size_px,
        network=arguments.network if method in NETWORK_METHODS else None,
        attention_head=arguments.attention_head if method == "attention" else SaliencySettings.attention_head,
    )


def described(settings: SaliencySettings) -> str:
    """Name the method, with its encoder and size where it works on features, or its network."""
    if settings.method in DEEP_METHODS:
        return f"{settings.method}, {settings.encoder} at {settings.feature_size_px} px"
    if settings.method == "attention":
        which = "mean" if settings.attention_head == "mean" else f"head {settings.attention_head}"
        return f"attention ({which}), {settings.encoder} at {settings.feature_size_px} px"
    if settings.network is not None:
        return f"{settings.method}, {settings.network.parent.parent.name}"
    return settings.method


def labels_behind(settings: SaliencySettings) -> str:
    """Say which labels touched what a method was made with."""
    if settings.method in DEEP_METHODS:
        return feature_record(settings.features)["supervision"]
    if settings.method == "attention":
        return attention_record(settings.features)["supervision"]
    if settings.method == "self_trained":
        return str(network_record(settings.network)["supervision"])
    return recorded_supervision({"settings": {"method": settings.method}}) or "none"


@functools.cache
def _open_labels(data: Path, split: str, classes: tuple[int, ...] | None) -> LabelReader:
    images = open_data_set(data, split)
    labels = images.labels if classes is None else only_classes(images, classes, IGNORE).labels
    if labels is None:
        raise InputError(f"{data} has no labels for split {split}; the benchmark needs a labelled one")
    return labels


@functools.cache
def _open_objects(data: Path, split: str, classes: tuple[int, ...] | None) -> Callable[[ImageRef], Instances]:
    images = open_data_set(data, split)
    return open_truth(images if classes is None else only_classes(images, classes, IGNORE), images.images)


@functools.cache
def _open_maps(data: Path, split: str, folder: Path) -> MaskFolder:
    return open_mask_folder(folder, open_data_set(data, split).images)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--data", type=Path, help="measure on this data set")
    work.add_argument("--render-table", action="store_true", help="write the table in docs/saliency.md")
    parser.add_argument("--split", default="val")
    parser.add_argument("--classes", default=None, help="labels that are foreground, others being ignored: 8,10,12")
    add_method_arguments(parser)
    parser.add_argument("--num-images", type=int, default=None, help="a random sample; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--results", type=Path, default=Path("results/saliency.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
