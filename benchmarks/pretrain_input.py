"""The input side of pretraining: pairs of views a second, and what is left of the speed of the step.

    python -m benchmarks.pretrain_input --images DIR --masks MASKS
    python -m benchmarks.pretrain_input --images DIR --masks MASKS --enlarge 4000 --num-images 16 --reduce

Loader: one process on one core draws pairs without and with a filled cache, in turns. End to end: the training loop on
the loader, against the same loop on a batch that lies in memory, in turns, with the first steps of each left out; the
median over rounds of the ratio of their rates is what counts. `--enlarge` writes the images anew with that longer side.
Rows go to results/pretrain_input.jsonl.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.rows import Row, append_row
from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.data.view_settings import ViewSettings
from densessl.data.view_sources import open_source_cache
from densessl.data.views import PairedViews, SampleKey, sources_for
from densessl.models.mask_contrast_model import ModelSettings, build_model
from densessl.structures import ImageRef, ViewBatch
from densessl.training import pretraining
from densessl.training.batches import load_batches
from densessl.training.devices import make_fabric
from densessl.training.pretrain_settings import PretrainSettings
from densessl.training.pretraining import pretrain_model
from densessl.training.run_log import read_metrics
from densessl.training.sampler import BatchSampler
from densessl.training.settings import TrainingSettings

SKIPPED_STEPS = 6
"""Steps at the start of a run that are not timed: kernels are built, and batches wait that were drawn before."""


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        images, masks = _open(arguments, Path(folder))
        views = ViewSettings(size_px=arguments.size, reduce_images=arguments.reduce)
        shape = read_image(images[0].path).shape
        about = {"size_px": arguments.size, "image_px": max(shape[:2]), "reduced": arguments.reduce}
        for row in _measure_loader(images, masks, views, Path(folder) / "cache", arguments.pairs):
            _append(arguments, {"part": "loader", **about, **row})
        for num_workers in arguments.workers:
            row = _measure_loop(images, masks, views, Path(folder), arguments, num_workers)
            _append(arguments, {"part": "loop", **about, **row})


def _measure_loader(
    images: tuple[ImageRef, ...], masks: MaskFolder, views: ViewSettings, folder: Path, num_pairs: int
) -> Iterator[Row]:
    """Yield pairs a second of one core without and with a cache that is full."""
    cache = open_source_cache(folder, sources_for(images, masks, views), float("inf"))
    drawers = {False: PairedViews(images, masks, views), True: PairedViews(images, masks, views, cache=cache)}
    keys = [SampleKey(0, epoch, index) for epoch in range(-(-num_pairs // len(images))) for index in range(len(images))]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with _one_core():
        for index in range(len(images)):
            drawers[True].sources.read(index)
        for key in keys[:num_pairs]:
            for is_cached, drawer in drawers.items():
                started = time.perf_counter()
                drawer[key]
                seconds[is_cached].append(time.perf_counter() - started)
    plain = sum(seconds[False])
    for is_cached, spent in seconds.items():
        yield {
            "cached": is_cached,
            "pairs": num_pairs,
            "pairs_per_second": round(num_pairs / sum(spent), 1),
            "median_ms": round(1e3 * statistics.median(spent), 2),
            "speed_over_uncached": round(plain / sum(spent), 2),
        }


def _measure_loop(
    images: tuple[ImageRef, ...],
    masks: MaskFolder,
    views: ViewSettings,
    folder: Path,
    arguments: argparse.Namespace,
    num_workers: int,
) -> Row:
    """Return images a second of the training loop with its loader and on a batch in memory."""
    training = TrainingSettings(
        epochs=1,
        batch_size=arguments.batch,
        num_workers=num_workers,
        cache_gb=100.0 if arguments.cached else 0.0,
        cache=folder / "cache" if arguments.cached else None,
        checkpoint_every=10**9,
        log_every=1,
    )
    model = ModelSettings(encoder=arguments.encoder, output_stride=arguments.output_stride)
    settings = PretrainSettings(model=model, views=views, training=training)
    needed = (SKIPPED_STEPS + arguments.steps) * arguments.batch
    many = (images * -(-needed // len(images)))[:needed]
    sampler = BatchSampler(len(images), arguments.batch, 1, 0)
    in_memory, _ = next(iter(load_batches(PairedViews(images, masks, views), sampler, 0)))
    rates: dict[str, list[float]] = {"loop": [], "memory": []}
    waits = []
    for turn in range(arguments.rounds):
        for source in rates:
            run = folder / f"run-{num_workers}-{turn}-{source}"
            with _batches_from(in_memory if source == "memory" else None):
                lines = _train(many, masks, run, settings)
            rates[source].append(len(lines) / sum(1 / line["images_per_second"] for line in lines))
            if source == "loop":
                waits.append(statistics.mean(line["data_wait"] for line in lines))
    return {
        "encoder": arguments.encoder,
        "output_stride": arguments.output_stride,
        "batch": arguments.batch,
        "num_workers": num_workers,
        "cached": arguments.cached,
        "num_steps": arguments.steps * arguments.rounds,
        "images_per_second": round(statistics.median(rates["loop"]), 3),
        "images_per_second_in_memory": round(statistics.median(rates["memory"]), 3),
        "share_of_step": round(statistics.median(a / b for a, b in zip(*rates.values(), strict=True)), 3),
        "data_wait": round(statistics.median(waits), 4),
    }


def _train(
    images: tuple[ImageRef, ...], masks: MaskFolder, run: Path, settings: PretrainSettings
) -> list[dict[str, Any]]:
    """Train for one pass over the images; returns the log lines of the timed steps, one for each."""
    run.mkdir()
    torch.manual_seed(0)
    fabric = make_fabric(settings.training.precision)
    pretrain_model(fabric, build_model(replace(settings.model, dropout=0.0)), images, masks, run, settings)
    return read_metrics(run)[SKIPPED_STEPS:]


@contextmanager
def _batches_from(batch: ViewBatch | None) -> Iterator[None]:
    """Let training read this batch, again and again, in place of what the loader draws; `None` leaves the loader."""
    if batch is None:
        yield
        return

    def replay(views: PairedViews, sampler: BatchSampler, *_: object) -> Iterator[tuple[ViewBatch, int]]:
        return repeat((batch, 0), len(sampler))

    with patch.object(pretraining, "load_batches", replay):
        yield


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process on one core, where the system can."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    num_threads = torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if cores is not None:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        if cores is not None:
            os.sched_setaffinity(0, cores)


def _open(arguments: argparse.Namespace, folder: Path) -> tuple[tuple[ImageRef, ...], MaskFolder]:
    """Return the first images that have a mask, written anew where they are to be enlarged."""
    everything = open_image_folder(arguments.images).images
    masks = open_mask_folder(arguments.masks, everything)
    images = tuple(ref for ref in everything if ref.stem in masks.files)[: arguments.num_images]
    if not arguments.enlarge:
        return images, masks
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for ref in images:
        image = read_image(ref.path)
        height, width = (round(side * arguments.enlarge / max(image.shape[:2])) for side in image.shape[:2])
        large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = generator.integers(-6, 7, (height, width, 1))  # as of a sensor: smooth JPEGs decode too fast
        noisy = np.clip(large + noise, 0, 255).astype(np.uint8)
        name = ref.stem.replace("/", "-")
        Image.fromarray(noisy).save(folder / "images" / f"{name}.jpg", quality=90)
        mask = masks.read(ref).foreground.astype(np.uint8) * 255
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    images = open_image_folder(folder / "images").images
    return images, open_mask_folder(folder / "masks", images)


def _append(arguments: argparse.Namespace, row: Row) -> None:
    print(json.dumps(append_row(arguments.results, {"benchmark": "pretrain_input", **row})), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--num-images", type=int, default=200, help="of those that have a mask")
    parser.add_argument("--enlarge", type=int, default=0, help="longer side in pixels of images written for this")
    parser.add_argument("--reduce", action="store_true", help="views.reduce_images")
    parser.add_argument("--cached", action="store_true", help="give the training loop a cache, full from the start")
    parser.add_argument("--pairs", type=int, default=400, help="pairs that are drawn with and without cache")
    parser.add_argument("--workers", type=int, nargs="*", default=[-1], help="loader processes of the training loop")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--output-stride", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of the training loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("results/pretrain_input.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
