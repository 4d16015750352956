"""Time our classical saliency estimators beside those of other packages, and compare the maps of like methods.

    python -m venv OTHER && OTHER/bin/pip install opencv-contrib-python-headless mc_mbd
    python -m benchmarks.classical_saliency --data ROOT --split val --other-python OTHER/bin/python

OpenCV's saliency module is in its contrib build, which cannot share an environment with opencv-python-headless: hence
a second one. mc_mbd (compiled on installation; may be left out) has the minimum barrier distance for seeded
segmentation; here its core gets our working copy and the image's edge as seeds. No package with robust background
detection, the whole of MB+ or the frequency-tuned method was found on PyPI
(pyimgsaliency, which has them, is not there).

All work on one thread on the same decoded images. In each round every method takes its turn, so that drift of the
machine's speed falls on all; the first round loads code and does not count. A speed ratio is the seconds of the other
method over ours, of one image, medians over the rounds; the median over the images is kept. Agreement of like methods
is Pearson's correlation and the mean absolute difference of the maps scaled to [0, 1], averaged over images; our maps
have Otsu's threshold at 0.5 (the bare transform does not), theirs do not. One row goes to
results/classical_saliency.jsonl.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, append_row
from densessl.data.images import read_image
from densessl.data.layouts import open_data_set
from densessl.saliency.barrier_distance import barrier_distance
from densessl.saliency.baselines import WORKING_SIZE_PX
from densessl.saliency.colour import shrink, stretch, to_lab
from densessl.saliency.estimators import find_estimator
from densessl.saliency.processing import use_one_thread
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import ImageArray

METHODS = ("fused", "robust_background", "barrier_distance", "mb_plus", "frequency_tuned", "spectral_residual")
TRANSFORM = "barrier_transform"
"""The bare distance in Lab at 160 pixels, without blur and enlarging: what mc_mbd computes."""
LIKE = {"spectral_residual": "opencv_spectral_residual", TRANSFORM: "mc_mbd_barrier_transform"}
"""Our methods and the same ones of others."""

Seconds = dict[str, list[float]]
Maps = dict[str, NDArray[Any]]


class Others:
    """The process that runs the methods of other packages (`benchmarks/other_saliency.py`)."""

    def __init__(self, stdin: IO[str], stdout: IO[str], folder: Path) -> None:
        self._stdin, self._stdout, self._folder = stdin, stdout, folder
        self.versions: dict[str, str | None] = self._answer()

    def give(self, image: ImageArray, lab: NDArray[np.float32]) -> None:
        """Hand over the image (height, width, 3) that `compute` works on."""
        np.save(self._folder / "image.npy", image)
        np.save(self._folder / "lab.npy", lab)

    def compute(self) -> dict[str, float]:
        """Return the seconds of each method."""
        paths = {name: str(self._folder / f"{name}.npy") for name in ("image", "lab")}
        self._stdin.write(json.dumps({**paths, "out": str(self._folder)}) + "\n")
        self._stdin.flush()
        return self._answer()

    def maps(self) -> Maps:
        """Return the maps of the last call of `compute`."""
        given = {"image", "lab"}
        return {path.stem: np.load(path) for path in self._folder.glob("*.npy") if path.stem not in given}

    def _answer(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            raise SystemExit("the process of --other-python ended; its message stands above")
        return json.loads(line)


def main() -> None:
    """Measure and append one row."""
    arguments = _parse()
    use_one_thread()
    images = open_data_set(arguments.data, arguments.split).images[: arguments.num_images]
    seconds: list[dict[str, float]] = []
    agreements: list[dict[str, tuple[float, float]]] = []
    with open_others(arguments.other_python) as others:
        for image in images:
            times, maps = measure_image(read_image(image.path), others, arguments.rounds)
            seconds.append({name: statistics.median(values) for name, values in times.items()})
            agreements.append(
                {ours: agreement(maps[ours], maps[theirs]) for ours, theirs in LIKE.items() if theirs in maps}
            )
        row = append_row(
            arguments.results,
            {
                "benchmark": "classical_saliency",
                "data": arguments.data.name,
                "split": arguments.split,
                "num_images": len(images),
                "num_rounds": arguments.rounds,
                "num_threads": 1,
                **summarise(seconds, agreements),
                "other_versions": others.versions,
            },
        )
    print(json.dumps(row, indent=2))


@contextmanager
def open_others(python: Path) -> Iterator[Others]:
    """Start the process of the other packages, with one thread, and end it."""
    script = Path(__file__).with_name("other_saliency.py")
    if not python.is_file():
        raise SystemExit(f"no file {python}; give --other-python the interpreter of the second environment")
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        ) as process,
    ):
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        yield Others(process.stdin, process.stdout, Path(folder))


def measure_image(image: ImageArray, others: Others, num_rounds: int) -> tuple[Seconds, Maps]:
    """Return the seconds of each method in each round, and the maps of all."""
    lab = to_lab(shrink(image, WORKING_SIZE_PX))
    others.give(image, lab)
    features = SaliencySettings().features
    ours: dict[str, Callable[[], NDArray[np.float32]]] = {
        method: lambda method=method: find_estimator(method, features)(image)  # type: ignore[misc]
        for method in METHODS
    }
    ours[TRANSFORM] = lambda: barrier_distance(lab)
    seconds: Seconds = {}
    maps: Maps = {}
    for turn in range(num_rounds + 1):
        found: dict[str, float] = {}
        for name, method in ours.items():
            started = time.perf_counter()
            maps[name] = method()
            found[name] = time.perf_counter() - started
        found.update(others.compute())
        if turn > 0:
            for name, value in found.items():
                seconds.setdefault(name, []).append(value)
    return seconds, {**maps, **others.maps()}


def agreement(ours: NDArray[Any], theirs: NDArray[Any]) -> tuple[float, float]:
    """Return Pearson's correlation and the mean absolute difference of two maps (height, width) scaled to [0, 1]."""
    first, second = stretch(ours.astype(np.float64)), stretch(theirs.astype(np.float64))
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1]), float(np.abs(first - second).mean())


def summarise(seconds: list[dict[str, float]], agreements: list[dict[str, tuple[float, float]]]) -> Row:
    """Return median seconds of all methods, median speed ratios, and mean agreements of like methods."""
    ours = [*METHODS, TRANSFORM]
    theirs = [name for name in seconds[0] if name not in ours]
    return {
        "seconds": {name: round(statistics.median(image[name] for image in seconds), 5) for name in seconds[0]},
        "speed_ratio": {
            name: {
                other: round(statistics.median(image[other] / image[name] for image in seconds), 3) for other in theirs
            }
            for name in ours
        },
        "agreement": {
            name: {
                "with": LIKE[name],
                "pearson": round(statistics.fmean(image[name][0] for image in agreements), 4),
                "mean_absolute_difference": round(statistics.fmean(image[name][1] for image in agreements), 4),
            }
            for name in agreements[0]
        },
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--num-images", type=int, default=50, help="the first ones of the split")
    parser.add_argument("--other-python", type=Path, required=True, help="interpreter with opencv-contrib")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each method on each image")
    parser.add_argument("--results", type=Path, default=Path("results/classical_saliency.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
