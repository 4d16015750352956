"""Measure a saliency method on a labelled data set: mean foreground IoU and images a second, as one JSON row.

    python benchmarks/saliency.py --data ROOT --split val --method fused

Foreground is every label but 0 and `IGNORE`; pixels labelled `IGNORE` are left out; the IoU of each image is
averaged, and a rejected image counts as an empty mask. The rate counts reading and proposing, without the start of
the workers and without writing. Labels are used for this number alone.
"""

import argparse
import datetime
import functools
import importlib.metadata
import json
import platform
import random
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from densessl.data.images import read_image
from densessl.data.layouts import open_data_set
from densessl.errors import InputError
from densessl.saliency.generation import use_one_thread
from densessl.saliency.proposals import SaliencySettings, propose
from densessl.structures import IGNORE, ImageProposals, ImageRef, LabelMap, LabelReader, MaskArray

PACKAGES = ("densessl", "numpy", "opencv-python-headless", "scipy")


def main() -> None:
    """Measure the method that the arguments name, append the row and print it."""
    arguments = _parse()
    settings = SaliencySettings(method=arguments.method, refine=arguments.refine, threshold=arguments.threshold)
    images = open_data_set(arguments.data, arguments.split)
    chosen = list(images.images)
    if arguments.num_images is not None:
        chosen = random.Random(arguments.seed).sample(chosen, min(arguments.num_images, len(chosen)))
    context = get_context("spawn")
    work = functools.partial(measure_image, arguments.data, arguments.split, settings)
    with ProcessPoolExecutor(arguments.num_workers, context, use_one_thread) as executor:
        results = list(executor.map(work, chosen, chunksize=4))
    overlaps, seconds = np.array([result[0] for result in results]), np.array([result[1] for result in results])
    row = {
        "benchmark": "saliency",
        "data": arguments.data.name,
        "split": arguments.split,
        "num_images": len(chosen),
        "seed": arguments.seed if arguments.num_images is not None else None,
        "settings": asdict(settings),
        "foreground_iou": round(float(overlaps.mean()), 4),
        "standard_error": round(float(overlaps.std(ddof=1) / len(overlaps) ** 0.5), 4) if len(overlaps) > 1 else None,
        "images_per_second": round(float(arguments.num_workers / seconds.mean()), 2),
        "num_rejected": sum(result[2] for result in results),
        "num_workers": arguments.num_workers,
        "commit": _commit(),
        "hardware": f"{platform.machine()}, {_processor()}",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")
    print(json.dumps(row))


def measure_image(data: Path, split: str, settings: SaliencySettings, image: ImageRef) -> tuple[float, float, bool]:
    """Return the foreground IoU of one image, the seconds that its proposals took, and whether it was rejected."""
    labels = _open_labels(data, split)(image)
    started = time.perf_counter()
    pixels = read_image(image.path)
    result = propose(pixels, image.stem, settings)
    seconds = time.perf_counter() - started
    is_accepted = isinstance(result, ImageProposals)
    mask = result.foreground if isinstance(result, ImageProposals) else np.zeros(labels.shape, dtype=bool)
    return foreground_iou(mask, labels), seconds, not is_accepted


def foreground_iou(mask: MaskArray, labels: LabelMap) -> float:
    """Return the IoU of a mask with the labelled objects, both (height, width); 1 where both are empty."""
    valid = labels != IGNORE
    objects = valid & (labels != 0)
    union = ((mask & valid) | objects).sum()
    return float((mask & objects).sum() / union) if union else 1.0


@functools.cache
def _open_labels(data: Path, split: str) -> LabelReader:
    labels = open_data_set(data, split).labels
    if labels is None:
        raise InputError(f"{data} has no labels for split {split}; the benchmark needs a labelled one")
    return labels


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--method", default="fused")
    parser.add_argument("--refine", default="colour_models")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--num-images", type=int, default=None, help="a random sample; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("results/saliency.jsonl"))
    return parser.parse_args()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
