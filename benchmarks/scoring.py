"""What matching and scoring cost: 1,449 predictions of 500x375 pixels, 21 x 21, against scanning every pair of classes.

    python -m benchmarks.scoring
    python -m benchmarks.scoring --num-images 145 --rounds 1 --results /tmp/rows.jsonl

Both ways get the same arrays in memory (uint8, regions of scenes with void borders) and one process, one thread, and
must find the same matching and the same mIoU. The published way is re-stated plainly: all pixels of the data set are
concatenated, and for every class and every cluster two masks over all of them are compared. From files, `evaluate`'s
own functions read palette PNGs. Memory is the growth of this process's peak while files are scored, for all images
and for a tenth of them. Rows go to results/scoring.jsonl.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.rows import append_row
from densessl.data.label_maps import write_label_map
from densessl.evaluation.confusion import accumulate_confusion
from densessl.evaluation.label_map_folders import confusion_of_folders
from densessl.evaluation.scores import scores_from_confusion
from densessl.structures import IGNORE

HEIGHT_PX, WIDTH_PX, NUM_CLASSES = 375, 500, 21
Maps = list[NDArray[np.uint8]]


def main() -> None:
    """Time all ways in one run and append one row for each."""
    arguments = _parse()
    if arguments.measure_memory is not None:
        print(_peak_growth_mib(arguments.measure_memory, arguments.num_images))
        return
    labels, predictions = planted_maps(arguments.num_images)
    with threadpool_limits(limits=1), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, maps in (("labels", labels), ("predictions", predictions)):
            for number, label_map in enumerate(maps):
                write_label_map(folder / kind / f"{number:05d}.png", label_map)
        ours = [_timed(lambda: score_in_memory(labels, predictions)) for _ in range(arguments.rounds)]
        files = [_timed(lambda: score_files(folder)) for _ in range(arguments.rounds)]
        scanned = _timed(lambda: scan_every_pair(labels, predictions))
        memory = {number: _memory_of(folder, number) for number in (arguments.num_images // 10, arguments.num_images)}
    for _, miou in (*ours, *files):
        if abs(miou - scanned[1]) > 1e-12:
            raise SystemExit(f"mIoU {miou} differs from that of scanning, {scanned[1]}")
    in_memory = statistics.median(seconds for seconds, _ in ours)
    rows = {
        "scanning every pair": {"seconds": scanned[0], "times_faster": 1.0},
        "in memory": {"seconds": in_memory, "times_faster": scanned[0] / in_memory},
        "from files": {
            "seconds": statistics.median(seconds for seconds, _ in files),
            "peak_growth_mib": memory[arguments.num_images],
            "peak_growth_mib_of_a_tenth": memory[arguments.num_images // 10],
        },
    }
    for way, found in rows.items():
        row = {"benchmark": "scoring", "way": way, "num_images": arguments.num_images, "height_px": HEIGHT_PX}
        row |= {"width_px": WIDTH_PX, "num_classes": NUM_CLASSES, "num_threads": 1, "miou": scanned[1]}
        row["load_average"] = round(os.getloadavg()[0], 2)
        append_row(arguments.results, row | {key: round(value, 3) for key, value in found.items()})
        print(json.dumps({"way": way, **found}), flush=True)


def planted_maps(num_images: int) -> tuple[Maps, Maps]:
    """Return label maps of a few regions each, with void borders, and predictions that agree with most of them."""
    rng = np.random.default_rng(0)
    names = rng.permutation(NUM_CLASSES)  # the cluster of each class
    labels, predictions = [], []
    for _ in range(num_images):
        coarse = np.where(rng.random((6, 8)) < 0.6, 0, rng.integers(0, NUM_CLASSES, 3)[rng.integers(0, 3, (6, 8))])
        label_map = np.kron(coarse, np.ones((63, 63), dtype=np.int64))[:HEIGHT_PX, :WIDTH_PX]
        prediction = np.roll(label_map, tuple(rng.integers(-12, 12, 2)), (0, 1))
        wrong = np.kron(rng.random((12, 16)) < 0.2, np.ones((32, 32), dtype=bool))[:HEIGHT_PX, :WIDTH_PX]
        prediction = np.where(wrong, rng.integers(NUM_CLASSES), prediction)
        is_border = np.zeros(label_map.shape, dtype=bool)
        is_border[1:] |= label_map[1:] != label_map[:-1]
        is_border[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
        labels.append(np.where(is_border, IGNORE, label_map).astype(np.uint8))
        predictions.append(names[prediction].astype(np.uint8))
    return labels, predictions


def score_in_memory(labels: Maps, predictions: Maps) -> float:
    """Return the mIoU of the library."""
    confusion = accumulate_confusion(zip(labels, predictions, strict=True), NUM_CLASSES, NUM_CLASSES)
    return scores_from_confusion(confusion, len(labels), "hungarian").miou


def score_files(folder: Path, num_images: int | None = None) -> float:
    """Return the mIoU of the library from folders of PNGs."""
    stems = None if num_images is None else [f"{number:05d}" for number in range(num_images)]
    found = confusion_of_folders(folder / "predictions", folder / "labels", NUM_CLASSES, are_clusters=True, stems=stems)
    return scores_from_confusion(found.confusion, len(found.stems), "hungarian").miou


def scan_every_pair(labels: Maps, predictions: Maps) -> float:
    """Return the mIoU as published: two masks over all pixels for each class and each cluster."""
    all_labels = np.concatenate([label_map.ravel() for label_map in labels])
    all_predictions = np.concatenate([label_map.ravel() for label_map in predictions])
    is_counted = all_labels != IGNORE
    all_labels, all_predictions = all_labels[is_counted], all_predictions[is_counted]
    iou = np.zeros((NUM_CLASSES, NUM_CLASSES))
    for class_index in range(NUM_CLASSES):
        for cluster in range(NUM_CLASSES):
            labelled, predicted = all_labels == class_index, all_predictions == cluster
            right = np.sum(labelled & predicted)
            missed, wrong = np.sum(labelled & ~predicted), np.sum(~labelled & predicted)
            iou[class_index, cluster] = right / max(right + missed + wrong, 1)
    return float(iou[linear_sum_assignment(iou, maximize=True)].mean())


def _timed(score: Callable[[], float]) -> tuple[float, float]:
    started = time.perf_counter()
    miou = score()
    return time.perf_counter() - started, miou


def _memory_of(folder: Path, num_images: int) -> float:
    """Measure in a process of its own, which has held no arrays of images."""
    command = [sys.executable, "-m", "benchmarks.scoring", "--measure-memory", str(folder)]
    run = subprocess.run([*command, "--num-images", str(num_images)], check=True, capture_output=True, text=True)
    return float(run.stdout)


def _peak_growth_mib(folder: Path, num_images: int) -> float:
    score_files(folder, 2)  # loads code
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    score_files(folder, num_images)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=1449, help="that many as VOC 2012 val has")
    parser.add_argument("--rounds", type=int, default=3, help="timed repetitions of the library's ways")
    parser.add_argument("--results", type=Path, default=Path("results/scoring.jsonl"))
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
