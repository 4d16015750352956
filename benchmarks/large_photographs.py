"""What the enlargement along edges gains and costs on images too large to be worked on as they are.

    python -m benchmarks.large_photographs

The default estimates and refines rendered scenes of 1400 pixels in their copies of 500; the maps are enlarged
bilinearly and by `enlarge_from_copy`. One row goes to results/large_photographs.jsonl: the mean IoU of both masks with
the renderer's, the mean share of the pixels within 12 of the true outline that they have right, and the median seconds
of an enlargement along edges to 12 megapixels on one core.
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
from densessl.saliency.colour import FloatMap, resize_map
from densessl.saliency.full_size import enlarge_from_copy, reduced_copy
from densessl.saliency.fused import fused
from densessl.saliency.processing import use_one_thread
from densessl.saliency.proposals import SaliencySettings, estimate
from densessl.structures import IGNORE, ImageArray, MaskArray

OUTLINE_PX = 12
LARGE_SIZE = (4000, 3000)
"""Width and height of 12 megapixels."""


def main() -> None:
    """Measure and append the row."""
    arguments = _parse()
    use_one_thread()
    found: dict[str, list[tuple[float, float]]] = {"bilinear": [], "along_edges": []}
    for index in range(arguments.num_scenes):
        scene = render_synthetic_image(index, arguments.size_px, seed=0)
        truth, valid = scene.classes > 0, scene.classes != IGNORE
        copy = reduced_copy(scene.image)
        soft = estimate(copy, SaliencySettings())
        for name, full in (
            ("bilinear", resize_map(soft, *truth.shape)),
            ("along_edges", enlarge_from_copy(scene.image, copy, soft)),
        ):
            found[name].append(compare(full > 0.5, truth, valid))
    row: dict[str, object] = {"benchmark": "large_photographs", "num_scenes": arguments.num_scenes}
    row |= {"size_px": arguments.size_px, "outline_px": OUTLINE_PX}
    for name, pairs in found.items():
        iou, share = np.mean(pairs, axis=0)
        row |= {f"iou_{name}": round(float(iou), 4), f"outline_share_{name}": round(float(share), 4)}
    image = render_synthetic_image(0, arguments.size_px, seed=0).image
    seconds = _seconds_of_12_megapixels(image, arguments.rounds)
    print(json.dumps(append_row(arguments.results, {**row, "seconds_12_megapixels": round(seconds, 4)})))


def compare(mask: MaskArray, truth: MaskArray, valid: MaskArray) -> tuple[float, float]:
    """Return the IoU of two masks (height, width), and their share of equal pixels near the outline of the second.

    Pixels that are not `valid` count for neither.
    """
    inside, outside = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (truth, ~truth))
    near = (inside + outside <= OUTLINE_PX) & valid
    union = ((mask | truth) & valid).sum()
    return float((mask & truth & valid).sum() / union), float((mask == truth)[near].mean())


def _seconds_of_12_megapixels(image: ImageArray, rounds: int) -> float:
    large = np.asarray(cv2.resize(image, LARGE_SIZE, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    copy = reduced_copy(large)
    soft: FloatMap = fused(copy)
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        enlarge_from_copy(large, copy, soft)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-scenes", type=int, default=10)
    parser.add_argument("--size-px", type=int, default=1400)
    parser.add_argument("--rounds", type=int, default=7, help="timed enlargements")
    parser.add_argument("--results", type=Path, default=Path("results/large_photographs.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
