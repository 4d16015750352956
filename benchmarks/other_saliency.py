"""Time saliency methods of other packages for `benchmarks.classical_saliency`, in an environment of their own.

Needs numpy and opencv-contrib-python-headless; uses mc_mbd too where it is installed. Imports nothing of densessl.

Prints one JSON line with the versions of what it found, then answers each JSON line `{"image", "lab", "out"}` on
standard input (two `.npy` files and a folder) with one line of seconds by method; maps go to `out/<method>.npy`.
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

try:
    import mbd_core  # of mc_mbd
except ImportError:
    mbd_core = None

PACKAGES = ("numpy", "opencv-contrib-python-headless", "mc_mbd")


def main() -> None:
    """Answer requests until standard input ends."""
    cv2.setNumThreads(1)
    print(json.dumps(_versions()), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        image, lab = np.load(request["image"]), np.load(request["lab"])
        bgr = np.ascontiguousarray(image[..., ::-1])
        seconds = {}
        for name, method in _methods(bgr, lab).items():
            started = time.perf_counter()
            values = method()
            seconds[name] = time.perf_counter() - started
            np.save(Path(request["out"]) / f"{name}.npy", values)
        print(json.dumps(seconds), flush=True)


def _methods(bgr: np.ndarray, lab: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    opencv: Any = cv2  # the part named saliency is in opencv-contrib alone
    methods: dict[str, Callable[[], np.ndarray]] = {
        "opencv_spectral_residual": lambda: _compute(opencv.saliency.StaticSaliencySpectralResidual_create(), bgr),
        "opencv_fine_grained": lambda: _compute(opencv.saliency.StaticSaliencyFineGrained_create(), bgr),
    }
    if mbd_core is not None:
        methods["mc_mbd_barrier_transform"] = lambda: _barrier_distance(lab)
    return methods


def _compute(method: Any, bgr: np.ndarray) -> np.ndarray:
    is_done, values = method.computeSaliency(bgr)
    if not is_done:
        raise RuntimeError(f"{method} computed no map")
    return values


def _barrier_distance(lab: np.ndarray) -> np.ndarray:
    """Return the sum over channels of the barrier distance to the edge, by the package's compiled core."""
    seeds = np.zeros(lab.shape[:2], np.int32)
    seeds[[0, -1]] = 1
    seeds[:, [0, -1]] = 1
    planes = np.ascontiguousarray(np.moveaxis(lab, 2, 0))
    distances: Any = sum(mbd_core.run_mbd_label_propagation(plane, seeds, 4)[1] for plane in planes)
    return np.asarray(distances)


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


if __name__ == "__main__":
    main()
