"""Automatic masks beside the package segment-anything: time, peak memory, agreement, and time of a single prompt.

    python -m benchmarks.automatic_masks --images ROOT/tiny_coco/val2017 --encoders small vit_b --large

Both get the same file of random weights (`benchmarks.random_sam`), the same photographs and settings, in fp32, each in
a process of its own, one after the other, with the same number of threads. The threshold of predicted IoU is set so
that about --passing of the masks pass it: that decides how many have to be upscaled (here; the package upscales all).
The image embedding is part of the time. Peak memory is the most that the process held from the first image on (Linux's
VmHWM), weights and libraries included, and the same less what it held just before. Agreement is the mean, over the
masks of both, of the highest IoU with a mask of the other. --large adds our own time and memory for an image of
8000 x 6000, which is too large for the package. One row for each encoder goes to results/automatic_masks.jsonl.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from benchmarks.random_sam import SHAPES, load_random_sam, save_random_sam
from benchmarks.rows import append_row
from densessl.data.images import list_images, read_image
from densessl.promptable.automatic_masks import automatic_masks
from densessl.promptable.automatic_settings import AutomaticSettings
from densessl.promptable.crop_grid import crops_of
from densessl.promptable.memory_plan import MAX_MEMORY_GB
from densessl.promptable.predictor import Predictor
from densessl.structures import ImageArray

SETTINGS = AutomaticSettings(stability_threshold=0.2, stability_offset=0.1, box_nms_threshold=0.97)
"""Random weights draw unsteady masks: with the published thresholds none would remain to compare."""

GIB = 2**30
NUM_PROMPTS = 20
LARGE = (6000, 8000)


def main() -> None:
    """Measure each encoder."""
    arguments = _parse()
    if arguments.child is not None:
        _measure_child(arguments)
        return
    paths = [str(ref.path) for ref in list_images(arguments.images)[:: arguments.every][: arguments.num_images]]
    for encoder in arguments.encoders:
        with tempfile.TemporaryDirectory() as folder:
            weights = save_random_sam(encoder, arguments.size_px, Path(folder) / "sam.pth")
            threshold = _threshold(weights, read_image(Path(paths[0])), arguments.passing)
            settings = replace(SETTINGS, points_per_side=arguments.points_per_side, predicted_iou_threshold=threshold)
            found = {
                name: _run_child(name, encoder, weights, settings, paths, arguments) for name in ("ours", "theirs")
            }
            if arguments.large:
                found["large"] = _run_child("large", encoder, weights, settings, paths, arguments)
        row = _row(encoder, settings, paths, arguments, found)
        append_row(arguments.results, row)
        print(json.dumps(row), flush=True)


def _row(
    encoder: str, settings: AutomaticSettings, paths: list[str], arguments: argparse.Namespace, found: dict[str, Any]
) -> dict[str, Any]:
    ours, theirs = found["ours"], found["theirs"]
    own = ("seconds", "cpu_seconds", "peak_gib", "peak_above_load_gib", "prompt_ms", "num_masks")
    row: dict[str, Any] = {"benchmark": "automatic_masks", "encoder": encoder, "size_px": arguments.size_px}
    row |= {"num_images": len(paths), "images": [Path(path).name for path in paths]}
    row |= {"settings": asdict(settings), "passing": arguments.passing}
    row |= {"max_memory_gb": MAX_MEMORY_GB, "threads": torch.get_num_threads()}
    row |= {name: ours[name] for name in own} | {f"{name}_segment_anything": theirs[name] for name in own}
    row |= {"mean_iou": _agreement(ours["masks"], theirs["masks"]), "same_run_lengths": _num_same(ours, theirs)}
    if "large" in found:
        row |= {f"large_{name}": found["large"][name] for name in ("seconds", "peak_gib", "peak_above_load_gib")}
    return row


def _threshold(weights: Path, image: ImageArray, passing: float) -> float:
    """Return the predicted IoU that a share of the masks of a coarse grid exceeds."""
    predictor = Predictor.from_weights(weights, "cpu", "fp32").set_image(image)
    (crop,) = crops_of((image.shape[0], image.shape[1]), AutomaticSettings())
    values = [predictor.predict(point[None]).predicted_iou for point in crop.points(6)]
    threshold = float(np.quantile(np.concatenate(values), 1 - passing))
    if threshold <= 0:
        raise SystemExit(
            f"the predicted IoU that a share of {passing} exceeds is {threshold:.3f}, and 0 or less lets all masks "
            "pass; give a smaller --passing, or a larger bias to the IoU head in benchmarks/random_sam.py"
        )
    return threshold


def _run_child(
    name: str,
    encoder: str,
    weights: Path,
    settings: AutomaticSettings,
    paths: list[str],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        task = {"encoder": encoder, "weights": str(weights), "settings": asdict(settings), "paths": paths}
        words = [
            "--child",
            name,
            "--task",
            json.dumps(task),
            "--answer",
            file.name,
            "--size-px",
            str(arguments.size_px),
        ]
        subprocess.run([sys.executable, "-m", "benchmarks.automatic_masks", *words], check=True)
        answer: dict[str, Any] = json.loads(Path(file.name).read_text(encoding="utf-8"))
        return answer


def _measure_child(arguments: argparse.Namespace) -> None:
    task = json.loads(arguments.task)
    settings = AutomaticSettings(**task["settings"])
    weights, images = Path(task["weights"]), [read_image(Path(path)) for path in task["paths"]]
    if arguments.child == "theirs":
        generate, prompt = _published(task["encoder"], arguments.size_px, weights, settings)
    else:
        generate, prompt = _own(weights, settings)
    if arguments.child == "large":
        images = [np.ascontiguousarray(np.resize(images[0], (*LARGE, 3)))]
    loaded = _reset_peak()
    started, started_cpu = time.perf_counter(), time.process_time()
    masks = [generate(image) for image in images]
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    answer = {
        "seconds": seconds / len(images),
        "cpu_seconds": cpu_seconds / len(images),
        "peak_gib": _memory("VmHWM") / GIB,
        "peak_above_load_gib": (_memory("VmHWM") - loaded) / GIB,
        "num_masks": sum(map(len, masks)),
        "masks": masks,
        "prompt_ms": None if arguments.child == "large" else _prompt_ms(prompt, images[0]),
    }
    arguments.answer.write_text(json.dumps(answer), encoding="utf-8")


Generate = Callable[[ImageArray], list[dict[str, Any]]]
PromptOn = Callable[[ImageArray], Callable[[np.ndarray], object]]


def _own(weights: Path, settings: AutomaticSettings) -> tuple[Generate, PromptOn]:
    predictor = Predictor.from_weights(weights, "cpu", "fp32")

    def prompt(image: ImageArray) -> Callable[[np.ndarray], object]:
        predictor.set_image(image)
        return lambda point: predictor.predict(point)

    return lambda image: [mask.runs.coco() for mask in automatic_masks(predictor, image, settings)], prompt


def _published(encoder: str, size_px: int, weights: Path, settings: AutomaticSettings) -> tuple[Generate, PromptOn]:
    from segment_anything import SamAutomaticMaskGenerator, SamPredictor  # type: ignore[import-untyped]

    sam = load_random_sam(encoder, size_px, weights)
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.predicted_iou_threshold,
        stability_score_thresh=settings.stability_threshold,
        stability_score_offset=settings.stability_offset,
        box_nms_thresh=settings.box_nms_threshold,
        output_mode="coco_rle",
    )

    def prompt(image: ImageArray) -> Callable[[np.ndarray], object]:
        predictor = SamPredictor(sam)
        predictor.set_image(image)
        return lambda point: predictor.predict(point, np.array([1]))

    return lambda image: [mask["segmentation"] for mask in generator.generate(image)], prompt


def _prompt_ms(prompt: PromptOn, image: ImageArray) -> float:
    """Return the median time of a click on an image that is encoded already, until three masks of its size."""
    ask = prompt(image)
    generator = np.random.default_rng(0)
    seconds = []
    for point in generator.uniform(0, [[image.shape[1], image.shape[0]]], (NUM_PROMPTS, 1, 2)):
        started = time.perf_counter()
        ask(point)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def _agreement(first: list[list[dict[str, Any]]], second: list[list[dict[str, Any]]]) -> float:
    best: list[float] = []
    for ours, theirs in zip(first, second, strict=True):
        if not ours or not theirs:
            best += [0.0] * (len(ours) + len(theirs))
            continue
        overlaps = coco_mask.iou(_bytes(ours), _bytes(theirs), [0] * len(theirs))
        best += [*overlaps.max(axis=1), *overlaps.max(axis=0)]
    return float(np.mean(best)) if best else 1.0


def _num_same(ours: dict[str, Any], theirs: dict[str, Any]) -> int:
    pairs = zip(ours["masks"], theirs["masks"], strict=True)
    return sum(len({mask["counts"] for mask in a} & {mask["counts"] for mask in b}) for a, b in pairs)


def _bytes(masks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"size": mask["size"], "counts": mask["counts"].encode("ascii")} for mask in masks]


def _reset_peak() -> int:
    """Forget the peak of loading; returns the bytes that the process holds now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory("VmRSS")


def _memory(key: str) -> int:
    """Return an entry of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of photographs (required)")
    parser.add_argument("--encoders", nargs="+", choices=SHAPES, default=["small", "vit_b"])
    parser.add_argument("--size-px", type=int, default=1024)
    parser.add_argument("--num-images", type=int, default=3)
    parser.add_argument("--every", type=int, default=10, help="take every n-th photograph of the folder")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--passing", type=float, default=0.5)
    parser.add_argument("--large", action="store_true", help="also an image of 8000 x 6000, ours alone")
    parser.add_argument("--results", type=Path, default=Path("results/automatic_masks.jsonl"))
    parser.add_argument("--child", choices=("ours", "theirs", "large"), help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.images is None and arguments.child is None:
        parser.error("the following arguments are required: --images")
    return arguments


if __name__ == "__main__":
    main()
