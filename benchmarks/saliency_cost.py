"""What saliency costs: images a second against image size and number of processes, and memory over many images.

    python -m benchmarks.saliency_cost --sizes 320 640 1280 2000 4000 --processes 0 1 2
    python -m benchmarks.saliency_cost --memory-images 10000

Images are rendered scenes, enlarged to the size that is measured, written as JPEG and run through `generate_proposals`
as users run it. Rows go to results/saliency_cost.jsonl. Rates are the stage's own, the start of its workers included.
Memory is the resident set of the process and its workers together, at each tenth of the run; `growth_mib` is the
largest of the ninth tenth less the largest of the second. In the last tenth the workers end, which takes some hundred
MiB of each for a moment, whatever the number of images.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.rows import append_row
from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.synthetic import render_data_set
from densessl.saliency.estimators import method_of
from densessl.saliency.generation import generate_proposals
from densessl.saliency.proposals import SaliencySettings

NUM_SCENES = 24
MIB = 2**20


def main() -> None:
    """Measure the curves that the arguments ask for."""
    arguments = _parse()
    settings = SaliencySettings(method=method_of(arguments.method))
    with tempfile.TemporaryDirectory() as folder:
        scenes = _render_scenes(Path(folder) / "scenes")
        for size_px in arguments.sizes:
            images = _write_images(Path(folder) / f"images-{size_px}", scenes, size_px, arguments.num_images)
            for num_processes in arguments.processes:
                out = Path(folder) / f"out-{size_px}-{num_processes}"
                summary = generate_proposals(open_image_folder(images), out, settings, num_processes)
                found = {"size_px": size_px, "num_processes": num_processes, "num_images": arguments.num_images}
                rate = round(summary.images_per_second, 2)
                _append(arguments, {"curve": "rate", **found, "images_per_second": rate})
        if arguments.memory_images:
            images = _write_images(Path(folder) / "many", scenes, arguments.memory_size, arguments.memory_images)
            memory = _Memory()
            with memory:
                generate_proposals(open_image_folder(images), Path(folder) / "out-many", settings, None)
            _append(
                arguments,
                {
                    "curve": "memory",
                    "size_px": arguments.memory_size,
                    "num_images": arguments.memory_images,
                    **memory.describe(),
                },
            )


class _Memory:
    """Samples the resident memory of this process and its children, ten times a second, while it is entered."""

    def __enter__(self) -> "_Memory":
        self._samples: list[float] = []
        self._is_running = True
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_running = False
        self._thread.join()

    def _sample(self) -> None:
        while self._is_running:
            self._samples.append(sum(map(_resident_mib, _family(os.getpid()))))
            time.sleep(0.1)

    def describe(self) -> dict[str, object]:
        """Return the largest memory of each tenth of the run, in MiB, and its growth."""
        tenths = [round(float(part.max())) for part in np.array_split(np.array(self._samples), 10)]
        return {"mib_by_tenth": tenths, "growth_mib": tenths[-2] - tenths[1]}


def _family(process: int) -> list[int]:
    """Return a process and all its descendants (Linux)."""
    found = [process]
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            for child in task.read_text(encoding="ascii").split():
                found.extend(_family(int(child)))
        except OSError:  # it has ended
            continue
    return found


def _resident_mib(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _render_scenes(folder: Path) -> list[np.ndarray]:
    render_data_set(folder, num_images=NUM_SCENES, size_px=320, seed=0)
    return [read_image(path) for path in sorted((folder / "JPEGImages").iterdir())]


def _write_images(folder: Path, scenes: list[np.ndarray], size_px: int, num_images: int) -> Path:
    """Write scenes with a long side of `size_px` and a short one of three quarters of it."""
    folder.mkdir()
    enlarged = [cv2.resize(scene, (size_px, size_px * 3 // 4), interpolation=cv2.INTER_CUBIC) for scene in scenes]
    for number in range(num_images):
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), enlarged[number % len(enlarged)][..., ::-1])
    return folder


def _append(arguments: argparse.Namespace, found: dict[str, object]) -> None:
    append_row(arguments.results, {"benchmark": "saliency_cost", "method": arguments.method, **found})
    print(json.dumps(found), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="fused")
    parser.add_argument("--sizes", nargs="*", type=int, default=[])
    parser.add_argument("--processes", nargs="*", type=int, default=[0, 2])
    parser.add_argument("--num-images", type=int, default=200, help="at each size")
    parser.add_argument("--memory-images", type=int, default=0)
    parser.add_argument("--memory-size", type=int, default=160, help="long side of the images of the memory curve")
    parser.add_argument("--results", type=Path, default=Path("results/saliency_cost.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
