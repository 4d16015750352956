"""Measure a saliency method on a labelled data set: mean foreground IoU and images a second, as one JSON row.

    python -m benchmarks.saliency --data ROOT --split val --method fused
    python -m benchmarks.saliency --render-table

The second line writes the rows as a table into docs/saliency.md and refuses rows that another version of the code
measured. A new row replaces an older one of the same images and settings.

Foreground is every label but 0 and `IGNORE`; pixels labelled `IGNORE` are left out; the IoU of each image is
averaged, and a rejected image counts as an empty mask. The rate counts reading and proposing, without the start of
the workers and without writing. Labels are used for this number alone.
"""

import argparse
import datetime
import functools
import hashlib
import importlib.metadata
import json
import platform
import random
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.rows import Row, latest, markdown_table, read_rows, replace_block
from densessl.data.images import read_image
from densessl.data.layouts import open_data_set
from densessl.errors import InputError
from densessl.files import write_text
from densessl.saliency.processing import use_one_thread
from densessl.saliency.proposals import SaliencySettings, propose
from densessl.structures import IGNORE, ImageProposals, ImageRef, LabelMap, LabelReader, MaskArray

PACKAGES = ("densessl", "numpy", "opencv-python-headless", "scipy", "timm", "torch")
ROOM = Path(__file__).parents[1] / "densessl/saliency"
PAGE = Path(__file__).parents[1] / "docs/saliency.md"
SAME_MEASUREMENT = ("data", "split", "num_images", "seed", "settings")


def main() -> None:
    """Measure the method that the arguments name, or render the table."""
    arguments = _parse()
    rows = read_rows(arguments.results)
    if arguments.render_table:
        replace_block(PAGE, "saliency", saliency_table(rows))
        return
    row = measure(arguments)
    kept = latest([*rows, row], lambda row: json.dumps([row[key] for key in SAME_MEASUREMENT]))
    write_text(arguments.results, "".join(json.dumps(line) + "\n" for line in kept))
    print(json.dumps(row))


def measure(arguments: argparse.Namespace) -> Row:
    """Return the row of the method that the arguments name."""
    settings = SaliencySettings(
        method=arguments.method,
        refine=arguments.refine,
        threshold=arguments.threshold,
        encoder=arguments.encoder,
        weights=arguments.weights,
        pretrained=arguments.pretrained,
        output_stride=arguments.output_stride,
        feature_size_px=arguments.feature_size_px,
    )
    images = open_data_set(arguments.data, arguments.split)
    chosen = list(images.images)
    if arguments.num_images is not None:
        chosen = random.Random(arguments.seed).sample(chosen, min(arguments.num_images, len(chosen)))
    context = get_context("spawn")
    work = functools.partial(measure_image, arguments.data, arguments.split, settings)
    with ProcessPoolExecutor(arguments.num_workers, context, use_one_thread) as executor:
        results = list(executor.map(work, chosen, chunksize=4))
    overlaps, seconds = np.array([result[0] for result in results]), np.array([result[1] for result in results])
    return {
        "benchmark": "saliency",
        "data": arguments.data.name,
        "split": arguments.split,
        "num_images": len(chosen),
        "seed": arguments.seed if arguments.num_images is not None else None,
        "settings": {**settings.plain(), "weights": settings.weights and settings.weights.name},
        "foreground_iou": round(float(overlaps.mean()), 4),
        "standard_error": round(float(overlaps.std(ddof=1) / len(overlaps) ** 0.5), 4) if len(overlaps) > 1 else None,
        "images_per_second": round(float(arguments.num_workers / seconds.mean()), 2),
        "num_rejected": sum(result[2] for result in results),
        "num_workers": arguments.num_workers,
        "commit": _commit(),
        "source_sha256": source_digest(),
        "hardware": f"{platform.machine()}, {_processor()}",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def source_digest() -> str:
    """Return the SHA-256 of densessl/saliency: a row holds for the code that has the same."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(ROOM.glob("*.py")))).hexdigest()


def saliency_table(rows: list[Row]) -> str:
    """Foreground IoU and speed of each method; refuses rows that other code measured."""
    stale = [row for row in rows if row.get("source_sha256") != source_digest()]
    if stale:
        raise SystemExit(f"{len(stale)} of {len(rows)} rows were measured by other code than this; measure them again")
    header = ["data", "split", "images", "method", "refine", "foreground IoU", "± standard error"]
    lines = [
        [
            row["data"],
            row["split"],
            str(row["num_images"]),
            row["settings"]["method"],
            row["settings"]["refine"],
            f"{row['foreground_iou']:.3f}",
            f"{row['standard_error']:.3f}",
            f"{row['images_per_second']:.0f}",
            str(row["num_workers"]),
            f"{row['hardware']}, {row['date']}",
        ]
        for row in sorted(rows, key=lambda row: (row["split"], -row["foreground_iou"]))
    ]
    return markdown_table([*header, "images/s", "workers", "hardware, date"], lines)


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
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--data", type=Path, help="measure a method on this data set")
    work.add_argument("--render-table", action="store_true", help="write the table in docs/saliency.md")
    parser.add_argument("--split", default="val")
    parser.add_argument("--method", default="fused")
    parser.add_argument("--refine", default="colour_models")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--encoder", default=SaliencySettings.encoder, help="of the methods on deep features")
    parser.add_argument("--weights", type=Path, default=None, help="the encoder's")
    parser.add_argument("--pretrained", action="store_true", help="let timm download the encoder's weights")
    parser.add_argument("--output-stride", type=int, default=SaliencySettings.output_stride)
    parser.add_argument("--feature-size-px", type=int, default=SaliencySettings.feature_size_px)
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
