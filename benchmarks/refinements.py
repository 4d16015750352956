"""Time the refinements on a rendered 500x375 scene, each beside the guided filter of the same run.

    python -m benchmarks.refinements

All refinements take the same image and soft map (that of the `fused` estimator) on one core, in turns, so that drift
of the machine's speed falls on all; medians over the rounds are compared. One row for each goes to
results/refinements.jsonl. `grabcut (segment)` is what `segment --refine grabcut` does to each mask of a model,
here to the same map; the others are those of `saliency`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.rows import append_row
from densessl.data.synthetic import render_synthetic_image
from densessl.promptable.mask_refinement import cut_mask
from densessl.saliency.bilateral_solver import refine_by_bilateral_solver
from densessl.saliency.colour import FloatMap
from densessl.saliency.colour_models import refine_by_colour_models
from densessl.saliency.dense_crf import refine_by_dense_crf
from densessl.saliency.estimators import Refiner
from densessl.saliency.fused import fused
from densessl.saliency.guided_filter import refine_by_guided_filter
from densessl.saliency.processing import use_one_thread
from densessl.structures import ImageArray

HEIGHT_PX, WIDTH_PX = 375, 500


def refine_by_grabcut(image: ImageArray, soft: FloatMap) -> FloatMap:
    """Return 0 and 1, as `segment --refine grabcut` decides from probabilities (height, width) of an image."""
    chance = np.clip(soft, 1e-4, 1 - 1e-4)
    return cut_mask(image, np.log(chance / (1 - chance))).astype(np.float32)


REFINERS: dict[str, Refiner] = {
    "guided_filter": refine_by_guided_filter,
    "colour_models": refine_by_colour_models,
    "bilateral_solver": refine_by_bilateral_solver,
    "dense_crf": refine_by_dense_crf,
    "grabcut (segment)": refine_by_grabcut,
}


def main() -> None:
    """Measure all refinements in turns and append one row for each."""
    arguments = _parse()
    use_one_thread()
    image = rendered_scene(arguments.scene)
    soft = fused(image)
    seconds: dict[str, list[float]] = {name: [] for name in REFINERS}
    for turn in range(arguments.rounds + 1):
        for name, refine in REFINERS.items():
            started = time.perf_counter()
            refine(image, soft)
            if turn > 0:  # the first turn also loads code
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        row = append_row(
            arguments.results,
            {
                "benchmark": "refinements",
                "refine": name,
                "height_px": HEIGHT_PX,
                "width_px": WIDTH_PX,
                "scene": arguments.scene,
                "num_rounds": arguments.rounds,
                "num_threads": 1,
                "seconds": round(median, 4),
                "time_over_guided_filter": round(median / medians["guided_filter"], 2),
            },
        )
        print(json.dumps(row))


def rendered_scene(index: int) -> ImageArray:
    """Return a synthetic scene resized to the size of a usual VOC photograph."""
    scene = render_synthetic_image(index, WIDTH_PX, seed=0)
    return np.asarray(cv2.resize(scene.image, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=int, default=0, help="index of the rendered scene")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of each refinement")
    parser.add_argument("--results", type=Path, default=Path("results/refinements.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
